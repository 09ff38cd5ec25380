import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DEFAULT_DPS_ENDPOINT,
  DPS_ENDPOINTS,
  deviceIdProblem,
  hostNameProblem,
  idScopeProblem,
  modelIdProblem,
  registrationIdProblem,
  resolveDpsEndpoint,
  splitHostPort,
} from '../../src/core/identifiers.js';

describe('registrationIdProblem', () => {
  it.each(['a', 'dev-1', 'SN-007', 'a.b_c:d-e', 'a-', '-', '_a', '7', 'x'.repeat(128)])('takes %j', (text) => {
    expect(registrationIdProblem(text)).toBeUndefined();
  });

  it.each([
    ['', /empty/],
    ['x'.repeat(129), /129 characters; 128/],
    ['a.', /ends in '\.'/],
    ['a_', /ends in '_'/],
    ['a:', /ends in ':'/],
    ['a b', /a space at position 2/],
    ['a/b', /'\/' at position 2/],
    ['dév', /U\+00E9 at position 2/],
    ['a\u202eb', /U\+202E at position 2/],
    ['a😀', /U\+1F600 at position 2/],
    ['a\n', /U\+000A at position 2/],
    ['a\0b', /U\+0000/],
    ['a*b', /'\*'/],
  ])('refuses %j', (text, problem) => {
    expect(registrationIdProblem(text)).toMatch(problem);
  });
});

describe('idScopeProblem', () => {
  it.each(['0ne00111111', '0ne003D5A75', '0cn0000990D', 'x', 'x'.repeat(64)])('takes %j', (text) => {
    expect(idScopeProblem(text)).toBeUndefined();
  });

  it.each(['', ' 0ne', '0ne\n', '0ne/x', '"0ne00111111"', '0ne\u00a0', '0ne\u200b', 'x'.repeat(65)])(
    'refuses %j and says where to find it',
    (text) => {
      expect(idScopeProblem(text)).toMatch(/overview page/);
    },
  );
});

describe('modelIdProblem', () => {
  it.each([
    'dtmi:com:example:Thermostat',
    'dtmi:com:example:Thermostat;1.2',
    'dtmi:com:example:Thermostat;1',
    'dtmi:a;10',
    'dtmi:a_b:C9;999999999',
  ])('takes %j', (text) => {
    expect(modelIdProblem(text)).toBeUndefined();
  });

  it.each([
    ['', /empty/],
    ['foo', /must look like dtmi:com:example:Thermostat;1/],
    ['dtmi:com:example:Thermostat;0', /must look like/],
    ['DTMI:com:example;1', /must look like/],
    ['com:example:Thermostat;1', /must look like/],
    ['dtmi:a b;1', /a space at position 7/],
    [`dtmi:${'x'.repeat(122)};1`, /129 characters; 128/],
  ])('refuses %j', (text, problem) => {
    expect(modelIdProblem(text)).toMatch(problem);
  });
});

describe('deviceIdProblem', () => {
  it.each(['dev-1', "aZ0-.+%_#*?!(),:=@$'", 'x'.repeat(128)])('takes %j', (text) => {
    expect(deviceIdProblem(text)).toBeUndefined();
  });

  it.each(['', 'a/b', 'a b', 'a\r\n', 'a"b', 'a&b', 'ä', 'x'.repeat(129)])('refuses %j', (text) => {
    expect(deviceIdProblem(text)).toBeTypeOf('string');
  });
});

const ENDPOINTS: readonly (readonly [string, string, number])[] = [
  ['global.azure-devices-provisioning.net', 'global.azure-devices-provisioning.net', 8883],
  ['localhost', 'localhost', 8883],
  ['hub_1.local.', 'hub_1.local.', 8883],
  ['127.0.0.1:45915', '127.0.0.1', 45915],
  ['h:1', 'h', 1],
  ['h:65535', 'h', 65535],
  ['[::1]', '::1', 8883],
  ['[::]:443', '::', 443],
  ['[2001:db8::1]:8883', '2001:db8::1', 8883],
  ['[1:2:3:4:5:6:7:8]', '1:2:3:4:5:6:7:8', 8883],
  ['[::ffff:127.0.0.1]:99', '::ffff:127.0.0.1', 99],
  ['[fe80::1%eth0]:99', 'fe80::1%eth0', 99],
];

const NOT_ENDPOINTS: readonly (readonly [string, RegExp])[] = [
  ['', /empty/],
  ['https://global.azure-devices-provisioning.net', /without https:/],
  ['host/path', /slash/],
  ['host:', /port/],
  ['host:0', /port/],
  ['host:65536', /port/],
  ['host:-1', /port/],
  ['host:1e3', /port/],
  ['host: 1', /port/],
  ['host:123456', /port/],
  [':8883', /empty/],
  ['::1', /brackets/],
  ['2001:db8::1', /brackets/],
  ['[::1', /bracket/],
  ['[]', /bracket/],
  ['[host]', /bracket/],
  ['[1:2:3:4:5:6:7]', /bracket/],
  ['[1:2:3:4:5:6:7:8:9]', /bracket/],
  ['[1::2::3]', /bracket/],
  ['[1:2:3:4:5:6:7::8]', /bracket/],
  ['[1:2:3:4:5:6:7::8:9]', /bracket/],
  ['[::12345]', /bracket/],
  ['[::256.0.0.1]', /bracket/],
  ['[127.0.0.1::]', /bracket/],
  ['[::1%]', /bracket/],
  ['[::1]x', /bracket/],
  ['[::1]:', /port/],
  ['[::1]:0', /port/],
  [' host', /a space at position 1/],
  ['ho st', /a space/],
  ['host\n', /U\+000A/],
  ['hôst', /xn--/],
  ['a..b', /empty part/],
  ['.a', /empty part/],
  [`${'x'.repeat(64)}.net`, /63/],
  [`${'x.'.repeat(127)}`, /254 characters; 253/],
  ['user@host', /'@'/],
];

describe('splitHostPort and hostNameProblem', () => {
  it.each(ENDPOINTS)('%j', (text, host, port) => {
    expect(hostNameProblem(text)).toBeUndefined();
    expect(splitHostPort(text, 8883)).toEqual({ host, port });
  });

  it.each(NOT_ENDPOINTS)('refuse %j', (text, problem) => {
    expect(hostNameProblem(text)).toMatch(problem);
    expect(splitHostPort(text, 8883)).toBeUndefined();
  });

  it('agree on any text', () => {
    const part = fc.constantFrom('a', '-', '.', ':', '[', ']', '1', '65536', '/', '%', ' ', 'ü', '\0');
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(part).map((parts) => parts.join('')),
        ),
        (text) => {
          expect(hostNameProblem(text) === undefined).toBe(splitHostPort(text, 1) !== undefined);
        },
      ),
    );
  });
});

describe('clouds', () => {
  it('have the hosts that Microsoft names', () => {
    expect(DPS_ENDPOINTS).toEqual({
      public: 'global.azure-devices-provisioning.net',
      china: 'global.azure-devices-provisioning.cn',
      usGovernment: 'global.azure-devices-provisioning.us',
    });
    expect(DEFAULT_DPS_ENDPOINT).toBe('global.azure-devices-provisioning.net');
    expect(Object.values(DPS_ENDPOINTS).map(hostNameProblem)).toEqual([undefined, undefined, undefined]);
  });

  it.each([
    ['public', 'global.azure-devices-provisioning.net'],
    ['usGovernment', 'global.azure-devices-provisioning.us'],
    ['usgovernment', 'global.azure-devices-provisioning.us'],
    ['China', 'global.azure-devices-provisioning.cn'],
    ['my-dps.azure-devices-provisioning.net', 'my-dps.azure-devices-provisioning.net'],
    ['LocalHost:8883', 'LocalHost:8883'],
    ['constructor', 'constructor'],
    ['__proto__', '__proto__'],
    ['', ''],
  ])('%j goes to %j', (text, host) => {
    expect(resolveDpsEndpoint(text)).toBe(host);
  });
});
