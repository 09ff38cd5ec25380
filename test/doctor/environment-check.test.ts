import { describe, expect, it } from 'vitest';
import { checkNodeSettings, checkProxy } from '../../src/doctor/environment-check.js';
import { proxyRule } from '../../src/net/proxy-choice.js';

describe('checkProxy', () => {
  it('names what is set and not used, without the address, in which passwords stand', () => {
    const finding = checkProxy(
      { https_proxy: 'http://user:S3CRET@proxy:3128', ALL_PROXY: 'x', HTTPS_PROXY: ' ' },
      undefined,
    );
    expect(finding).toMatchObject({
      verdict: 'warning',
      message:
        'https_proxy and ALL_PROXY: set, but not used for this host, which is in NO_PROXY or on this machine; connections to it go directly.',
      fix: expect.stringContaining('firewall'),
    });
    expect(JSON.stringify(finding)).not.toContain('S3CRET');
    expect(checkProxy({ http_proxy: 'x' }, undefined).verdict).toBe('ok');
  });

  it('tells the one that is taken, and who says so', () => {
    const hop = { kind: 'http', host: 'proxy.example', port: 3128, password: 'S3CRET' };
    expect(checkProxy({ ALL_PROXY: 'y', HTTPS_PROXY: 'x' }, hop)).toEqual({
      check: 'proxy',
      verdict: 'ok',
      message: 'Connections go by the http proxy proxy.example:3128, as HTTPS_PROXY says; it looks up the names.',
    });
    expect(checkProxy({ HTTPS_PROXY: 'x' }, { ...hop, host: '::1' }, 'DPS_PROXY').message).toBe(
      'Connections go by the http proxy [::1]:3128, as DPS_PROXY says; it looks up the names.',
    );
  });

  it('takes a proxy that is not wanted for no fault', () => {
    expect(checkProxy({ HTTPS_PROXY: 'x' }, undefined, '--proxy')).toEqual({
      check: 'proxy',
      verdict: 'ok',
      message: 'Connections go directly, as --proxy says.',
    });
  });

  it('names the variable that the proxy is taken from, whichever are set', () => {
    const names = ['https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'];
    for (let set = 1; set < 1 << names.length; set += 1) {
      const given = names.filter((_, index) => (set >> index) & 1);
      const env = Object.fromEntries(given.map((name) => [name, `http://proxy-${names.indexOf(name)}.example`]));
      const hop = proxyRule({ env })?.({ host: 'dps.example', port: 443 });
      const { message } = checkProxy(env, hop);
      const [, index, name] = /proxy-(\d)\.example:80, as (\w+) says/.exec(message) ?? [];
      expect(given).toContain(name);
      expect(name).toBe(names[Number(index)]);
    }
  });
});

describe('checkNodeSettings', () => {
  it('tells what has no effect', () => {
    const env = { NODE_EXTRA_CA_CERTS: 'x' };
    expect(checkNodeSettings({}, true).verdict).toBe('ok');
    expect(checkNodeSettings(env, false).verdict).toBe('ok');
    expect(checkNodeSettings(env, true)).toMatchObject({ verdict: 'warning', fix: expect.any(String) });
  });
});
