import { describe, expect, it } from 'vitest';
import { proxyRule } from '../../src/net/proxy-choice.js';

const HUB = { host: 'hub.example.com', port: 8883 };
const FROM_ENV = { https_proxy: 'http://proxy.example:3128' };

function chosen(env: Record<string, string | undefined>, target: { host: string; port: number } = HUB): string {
  const proxy = proxyRule({ env })?.(target);
  return proxy === undefined ? 'direct' : `${proxy.kind} ${proxy.host}:${proxy.port}`;
}

describe('the URL of a proxy', () => {
  it.each<[string, object]>([
    ['http://proxy.example:3128', { kind: 'http', host: 'proxy.example', port: 3128 }],
    ['http://proxy.example:3128/', { kind: 'http', host: 'proxy.example', port: 3128 }],
    ['HTTP://Proxy.Example', { kind: 'http', host: 'proxy.example', port: 80 }],
    ['proxy.example:3128', { kind: 'http', host: 'proxy.example', port: 3128 }],
    ['10.0.0.1', { kind: 'http', host: '10.0.0.1', port: 80 }],
    ['u:p@proxy.example:80', { kind: 'http', host: 'proxy.example', port: 80, username: 'u', password: 'p' }],
    ['http://u@proxy.example', { kind: 'http', host: 'proxy.example', port: 80, username: 'u', password: '' }],
    [
      'http://us%40er:p%3A%2F%C3%A4@[::1]:3128',
      { kind: 'http', host: '::1', port: 3128, username: 'us@er', password: 'p:/ä' },
    ],
    ['socks5://10.0.0.1', { kind: 'socks5', host: '10.0.0.1', port: 1080 }],
    ['socks5h://u:p@h:9', { kind: 'socks5', host: 'h', port: 9, username: 'u', password: 'p' }],
  ])('%s', (proxy, address) => {
    expect(proxyRule({ proxy, env: {} })?.(HUB)).toEqual(address);
  });

  it.each<[string, RegExp]>([
    ['https://u:SECRET@proxy.example', /^Option proxy cannot be used: https:\/\/ is not supported; use http/],
    ['ftp://u:SECRET@proxy.example', /ftp:\/\/ is not supported/],
    ['http://u:SECRET@:80', /it is not a URL such as/],
    ['http://u:SECRET@host:99999', /it is not a URL such as/],
    ['', /it is not a URL such as/],
    ['http://u:SECRET%FF@host', /not percent-encoded UTF-8/],
    ['http://u%3Av:SECRET@host', /contains a colon/],
    [`socks5://u:SECRET${'x'.repeat(250)}@host`, /longer than the 255 bytes/],
  ])('is refused, and not shown: %s', (proxy, words) => {
    for (const settings of [{ proxy, env: {} }, { env: { HTTPS_PROXY: proxy || 'http://' } }]) {
      let error: unknown;
      try {
        proxyRule(settings);
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toMatchObject({ name: 'ConfigurationError', code: 'ERR_DPS_CONFIG_OPTION' });
      expect(String(error)).not.toContain('SECRET');
      if ('proxy' in settings) expect((error as Error).message).toMatch(words);
      else expect(error).toMatchObject({ option: 'HTTPS_PROXY' });
    }
  });
});

describe('the choice', () => {
  it('is none without a setting', () => {
    expect(proxyRule({ env: {} })).toBeUndefined();
    expect(proxyRule({ env: { HTTPS_PROXY: '', ALL_PROXY: ' ' } })).toBeUndefined();
    // Of no concern: it is for plain HTTP, and in CGI it is a header of the request.
    expect(proxyRule({ env: { HTTP_PROXY: 'http://p' } })).toBeUndefined();
  });

  it('lets the option win over the environment, loopback and NO_PROXY included', () => {
    const env = { ...FROM_ENV, no_proxy: '*' };
    const rule = proxyRule({ proxy: 'socks5://other', env });
    expect(rule?.(HUB)).toMatchObject({ host: 'other' });
    expect(rule?.({ host: 'localhost', port: 1 })).toMatchObject({ host: 'other' });
    expect(proxyRule({ proxy: 'none', env: FROM_ENV })).toBeUndefined();
    expect(proxyRule({ proxy: 'None', env: FROM_ENV })).toBeUndefined();
  });

  it('takes lower case before upper, and HTTPS_PROXY before ALL_PROXY', () => {
    const all = { https_proxy: 'a', HTTPS_PROXY: 'b', all_proxy: 'c', ALL_PROXY: 'd' };
    expect(chosen(all)).toBe('http a:80');
    expect(chosen({ ...all, https_proxy: '' })).toBe('http b:80');
    expect(chosen({ all_proxy: 'c', ALL_PROXY: 'd' })).toBe('http c:80');
    expect(chosen({ ALL_PROXY: ' socks5://d ' })).toBe('socks5 d:1080');
  });

  it.each([
    ['localhost', 'direct'],
    ['LOCALHOST.', 'direct'],
    ['dps.localhost', 'direct'],
    ['127.0.0.1', 'direct'],
    ['127.8.9.1', 'direct'],
    ['::1', 'direct'],
    ['128.0.0.1', 'http proxy.example:3128'],
    ['localhost.example', 'http proxy.example:3128'],
    ['::2', 'http proxy.example:3128'],
  ])('goes to %s: %s', (host, way) => {
    expect(chosen(FROM_ENV, { host, port: 443 })).toBe(way);
  });

  it.each<[string, string, boolean]>([
    ['*', 'hub.example.com', true],
    ['example.com', 'hub.example.com', true],
    ['.example.com', 'hub.example.com', true],
    ['*.example.com', 'hub.example.com', true],
    ['EXAMPLE.com.', 'Hub.Example.Com.', true],
    ['hub.example.com', 'hub.example.com', true],
    ['ple.com', 'hub.example.com', false],
    ['xhub.example.com', 'hub.example.com', false],
    ['other.org, example.com', 'hub.example.com', true],
    ['other.org example.com', 'hub.example.com', true],
    [',, ,', 'hub.example.com', false],
    ['.', 'hub.example.com', false],
    ['hub.example.com:8883', 'hub.example.com', true],
    ['example.com:443', 'hub.example.com', false],
    ['10.1.2.3', '10.1.2.3', true],
    ['10.1.2.3:8883', '10.1.2.3', true],
    ['10.1.2.3:443', '10.1.2.3', false],
    ['1.2.3', '10.1.2.3', false],
    ['2.3', '10.1.2.3', false],
    ['10.0.0.0/8', '10.1.2.3', true],
    ['10.1.2.0/24', '10.1.3.3', false],
    ['10.0.0.0/33', '10.1.2.3', false],
    ['10.0.0.0/x', '10.1.2.3', false],
    ['10.0.0.0/', '10.1.2.3', false],
    ['example.com/8', 'hub.example.com', false],
    ['2001:db8::1', '2001:db8::1', true],
    ['[2001:db8::1]', '2001:db8::1', true],
    ['[2001:db8::1]:8883', '2001:db8::1', true],
    ['[2001:db8::1]:443', '2001:db8::1', false],
    ['2001:db8::/32', '2001:db8:5::1', true],
    ['[2001:db8::]/32', '2001:db8:5::1', true],
    ['2001:db9::/32', '2001:db8:5::1', false],
    ['10.0.0.0/8', '2001:db8::1', false],
  ])('NO_PROXY=%s for %s: %s', (noProxy, host, isDirect) => {
    const way = isDirect ? 'direct' : 'http proxy.example:3128';
    expect(chosen({ ...FROM_ENV, NO_PROXY: noProxy }, { host, port: 8883 })).toBe(way);
    expect(chosen({ ...FROM_ENV, no_proxy: noProxy, NO_PROXY: '*' }, { host, port: 8883 })).toBe(way);
  });
});
