import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  emulator,
  folder,
  mute,
  perform,
  portOf,
  type Row,
  run,
  SHORT,
  stage,
  strangers,
  usual,
  web,
} from './bench.js';

/** Rows that hold over both transports: same reply on the wire, same code. */
const BOTH: readonly Row[] = [
  {
    name: 'unknown device',
    exit: 77,
    code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
    says: /not enrolled/i,
    args: ({ device, file }) => [
      '--registration-id',
      device,
      '--symmetric-key-file',
      file('key', Buffer.alloc(32, 7).toString('base64')),
    ],
  },
  {
    name: 'wrong key',
    exit: 77,
    code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
    says: /key/i,
    args: ({ enrolled, file }) => [
      ...enrolled(),
      '--symmetric-key-file',
      file('wrong', Buffer.alloc(64, 7).toString('base64')),
    ],
  },
  {
    name: 'certificate of a foreign CA',
    exit: 77,
    code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
    says: /certificate/i,
    args: ({ certified }) => certified({ authority: strangers }),
  },
  {
    name: 'disabled enrollment',
    exit: 77,
    code: 'ERR_DPS_REGISTRATION_DISABLED',
    says: /disabled/,
    args: ({ enrolled }) => enrolled({ provisioningStatus: 'disabled' }),
  },
  {
    name: 'failed operation',
    exit: 65,
    code: 'ERR_DPS_REGISTRATION_FAILED',
    says: /400207/,
    args: ({ enrolled, fault }) => {
      fault({
        at: 'dps.register',
        action: {
          kind: 'outcome',
          status: 'failed',
          errorCode: 400207,
          errorMessage: 'Custom allocation failed with status code: 400',
        },
      });
      return enrolled();
    },
  },
  {
    name: 'HTML instead of JSON',
    exit: 76,
    code: 'ERR_DPS_PROTOCOL_BODY',
    says: /proxy|portal/i,
    args: ({ enrolled, fault }) => {
      fault({
        at: 'dps.register',
        action: {
          kind: 'respond',
          status: 200,
          text: '<html><body>Please log in</body></html>',
          headers: { 'content-type': 'text/html' },
        },
      });
      return enrolled();
    },
  },
  {
    name: 'empty body',
    exit: 76,
    code: 'ERR_DPS_PROTOCOL_BODY',
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.status', action: { kind: 'respond', status: 200, text: '' } });
      return enrolled();
    },
  },
  {
    name: 'invalid UTF-8',
    exit: 76,
    code: 'ERR_DPS_PROTOCOL_BODY',
    args: ({ enrolled, fault }) => {
      fault({
        at: 'dps.status',
        action: { kind: 'respond', status: 200, base64: Buffer.from([0x7b, 0xff, 0x7d]).toString('base64') },
      });
      return enrolled();
    },
  },
  {
    name: 'request refused as wrong',
    exit: 65,
    code: 'ERR_DPS_SERVICE_BAD_REQUEST',
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.register', action: { kind: 'respond', status: 400 } });
      return enrolled();
    },
  },
  {
    name: 'endless 429',
    exit: 75,
    code: 'ERR_DPS_SERVICE_THROTTLED',
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.register', action: { kind: 'respond', status: 429, retryAfter: '0' } });
      return [...enrolled(), '--timeout', '4'];
    },
  },
  {
    name: 'endless 500',
    exit: 75,
    code: 'ERR_DPS_SERVICE_UNAVAILABLE',
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.register', action: { kind: 'respond', status: 500 } });
      return [...enrolled(), '--timeout', '4'];
    },
  },
  {
    name: 'endless assigning',
    exit: 75,
    code: 'ERR_DPS_DEADLINE',
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.register', action: { kind: 'delay', polls: 1_000_000 } });
      return [...enrolled(), '--timeout', '5'];
    },
  },
  ...(['dps.register', 'dps.status', 'hub.connack', 'hub.suback', 'hub.twinGet'] as const).flatMap((at): Row[] => [
    {
      name: `no answer at ${at}`,
      exit: 69,
      code: /^ERR_DPS_(REQUEST|CONNECT)_TIMEOUT$|^ERR_DPS_DEADLINE$/,
      args: ({ enrolled, fault }) => {
        fault({ at, action: { kind: 'silent' } });
        fault({ at: 'dps.register', action: { kind: 'retryAfter', value: '1' } });
        return [...enrolled(), ...SHORT];
      },
    },
    {
      name: `connection cut at ${at}`,
      exit: 69,
      code: /^ERR_DPS_CONNECTION_LOST$|^ERR_DPS_DEADLINE$/,
      args: ({ enrolled, fault }) => {
        fault({ at, action: { kind: 'cut' } });
        fault({ at: 'dps.register', action: { kind: 'retryAfter', value: '1' } });
        return [...enrolled(), '--timeout', '6'];
      },
    },
  ]),
  {
    name: 'wrong CA',
    exit: 78,
    code: 'ERR_DPS_TLS_UNTRUSTED',
    says: /CA|authorit/i,
    args: ({ enrolled }) => [...enrolled(), '--ca-file', join(folder, 'other-ca.pem')],
  },
  {
    name: 'DNS failure',
    exit: 69,
    code: 'ERR_DPS_DNS',
    args: ({ enrolled }) => [...enrolled(), '--endpoint', 'no-such-host.invalid', '--timeout', '3'],
  },
  {
    name: 'peer that accepts and stays mute',
    exit: 69,
    code: /^ERR_DPS_CONNECT_TIMEOUT$|^ERR_DPS_DEADLINE$/,
    args: ({ enrolled }) => [...enrolled(), '--endpoint', `127.0.0.1:${portOf(mute)}`, ...SHORT],
  },
  {
    name: 'peer that does not speak TLS',
    exit: 69,
    code: 'ERR_DPS_TLS_HANDSHAKE',
    args: ({ enrolled }) => [...enrolled(), '--endpoint', `127.0.0.1:${portOf(web)}`, '--timeout', '3'],
  },
  {
    name: 'hub that refuses the credential',
    exit: 77,
    code: 'ERR_DPS_CONNACK_UNAUTHORIZED',
    args: ({ enrolled, fault }) => {
      fault({ at: 'hub.connack', action: { kind: 'connack', code: 5 } });
      return [...enrolled(), '--timeout', '8'];
    },
  },
];

/** Rows that only one transport has. */
const ONCE: readonly Row[] = [
  {
    name: 'wrong ID scope over MQTT: CONNACK 3',
    exit: 69,
    code: 'ERR_DPS_CONNACK_UNAVAILABLE',
    says: /ID scope/,
    args: ({ enrolled }) => [...enrolled(), '--id-scope', '0ne0FFFFFFF'],
  },
  {
    name: 'wrong ID scope over HTTPS: 404',
    exit: 65,
    code: 'ERR_DPS_SERVICE_NOT_FOUND',
    says: /ID scope/,
    args: ({ enrolled }) => [
      ...enrolled(),
      '--id-scope',
      '0ne0FFFFFFF',
      '--transport',
      'https',
      '--endpoint',
      emulator.endpoints.dps.https,
    ],
  },
  {
    name: 'closed port',
    exit: 69,
    code: 'ERR_DPS_CONNECT',
    args: ({ enrolled }) => [...enrolled(), '--endpoint', '127.0.0.1:1', '--timeout', '3'],
  },
  {
    name: 'no CONNACK',
    exit: 69,
    code: /TIMEOUT|DEADLINE/,
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.connack', action: { kind: 'silent' } });
      return [...enrolled(), ...SHORT];
    },
  },
  {
    name: 'no SUBACK',
    exit: 69,
    code: /TIMEOUT|DEADLINE/,
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.suback', action: { kind: 'silent' } });
      return [...enrolled(), ...SHORT];
    },
  },
  {
    name: 'refused subscription',
    exit: 76,
    code: /^ERR_DPS_PROTOCOL/,
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.suback', action: { kind: 'suback', code: 128 } });
      return enrolled();
    },
  },
  {
    name: 'malformed MQTT',
    exit: 76,
    code: 'ERR_DPS_PROTOCOL_MQTT',
    args: ({ enrolled, fault }) => {
      fault({
        at: 'dps.connack',
        action: { kind: 'raw', base64: Buffer.from('HTTP/1.1 200 OK\r\n\r\n').toString('base64') },
      });
      return enrolled();
    },
  },
  {
    name: 'twin that is no twin',
    exit: 76,
    code: 'ERR_DPS_PROTOCOL_TWIN',
    args: ({ enrolled, fault }) => {
      fault({ at: 'hub.twinGet', action: { kind: 'respond', status: 200, text: '[]' } });
      return enrolled();
    },
  },
];

describe.concurrent('over MQTT', () => {
  it.each(BOTH.map((row) => [row.name, row] as const))('%s', (_, row) => perform(row, 'mqtt'));
});

describe.concurrent('over HTTPS', () => {
  it.each(BOTH.map((row) => [row.name, row] as const))('%s', (_, row) => perform(row, 'https'));
});

describe.concurrent('over one of them', () => {
  it.each(ONCE.map((row) => [row.name, row] as const))('%s', (_, row) => perform(row));

  it.each(['mqtt', 'https'] as const)('a non-ASCII payload comes through over %s', async (transport) => {
    const { enrolled, fault } = stage();
    const payload = { motto: 'Grüße, 世界 🌍' };
    fault({ at: 'dps.register', action: { kind: 'payload', payload } });
    const { exit, stdout, stderr } = await run([...usual(transport), ...enrolled()]);
    expect(exit, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ payload });
  });
});
