import { describe, expect, it } from 'vitest';
import { checkNodeSettings, checkProxy } from '../../src/doctor/environment-check.js';

describe('checkProxy', () => {
  it('names what is set and not used, without the address, in which passwords stand', () => {
    const finding = checkProxy(
      { https_proxy: 'http://user:S3CRET@proxy:3128', ALL_PROXY: 'x', HTTPS_PROXY: '' },
      undefined,
    );
    expect(finding).toMatchObject({
      verdict: 'warning',
      message: 'https_proxy and ALL_PROXY: set, but not used here; connections go to the service directly.',
      fix: expect.stringContaining('firewall'),
    });
    expect(JSON.stringify(finding)).not.toContain('S3CRET');
    expect(checkProxy({ http_proxy: 'x' }, undefined).verdict).toBe('ok');
  });
});

describe('checkProxy', () => {
  it('tells the one that is taken', () => {
    const hop = { kind: 'http', host: 'proxy.example', port: 3128, password: 'S3CRET' };
    expect(checkProxy({ HTTPS_PROXY: 'x' }, hop)).toEqual({
      check: 'proxy',
      verdict: 'ok',
      message: 'Connections go by the http proxy proxy.example:3128, which looks up the names.',
    });
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
