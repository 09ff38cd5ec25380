import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../src/core/twin.js';
import type { FaultAction, FaultPoint } from '../../src/emulator/index.js';
import { type Bench, follow, INDIVIDUAL, KEYS, startBench, TPM_BLOB } from './bench.js';
import { signatureIn } from './canaries.js';
import { expectNoLeaks, startRecording } from './channels.js';

/**
 * Services, proxies and brokers that say the device's own token back, or a key blob, wherever they can say anything.
 */

/** What a careless service may make of a token. */
const SPELLINGS: readonly (readonly [name: string, spell: (token: string) => string])[] = [
  ['the whole token', (token) => `Bad token: ${token}`],
  ['its signature', (token) => `wrong signature ${signatureIn(token).toString('base64')}`],
  ['its signature as sent', (token) => `sig ${encodeURIComponent(signatureIn(token).toString('base64'))} is wrong`],
  ['its signature in lower-case percent encoding', (token) => lowerPercent(signatureIn(token).toString('base64'))],
  ['its signature in HTML', (token) => inHtml(signatureIn(token).toString('base64'))],
  [
    'its signature escaped twice',
    (token) => JSON.stringify(signatureIn(token).toString('base64').replaceAll('/', '\\/')),
  ],
  ['its signature in hex', (token) => signatureIn(token).toString('hex').toUpperCase()],
  ['the token in Base64', (token) => `Authorization: ${Buffer.from(token).toString('base64')}`],
  ['the signature, cut', (token) => `got ${signatureIn(token).toString('base64').slice(0, 30)}...`],
  ['a key blob', () => `cannot activate ${TPM_BLOB}`],
  ['a key blob in lines', () => TPM_BLOB.replace(/.{32}/g, '$&\r\n')],
];

function lowerPercent(text: string): string {
  return encodeURIComponent(text).replace(/%../g, (code) => code.toLowerCase());
}

function inHtml(text: string): string {
  return text.replace(/[^A-Za-z0-9]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

interface Echo {
  readonly name: string;
  readonly at: FaultPoint;
  /** Left out: both. */
  readonly over?: 'mqtt' | 'https';
  readonly action: (said: string) => FaultAction | readonly FaultAction[];
}

const errorBody = (said: string): JsonObject => ({
  errorCode: 401002,
  message: said,
  trackingId: said,
  timestampUtc: said,
  detail: said,
});

const ended = (status: string, said: string): JsonObject => ({
  operationId: 'op-1',
  status,
  registrationState: { registrationId: INDIVIDUAL, status, errorCode: 400207, errorMessage: said, substatus: said },
});

const assigned = (changes: JsonObject): JsonObject => ({
  operationId: 'op-1',
  status: 'assigned',
  registrationState: {
    registrationId: INDIVIDUAL,
    status: 'assigned',
    assignedHub: 'localhost:1',
    deviceId: INDIVIDUAL,
    ...changes,
  },
});

const DPS_POINTS: readonly FaultPoint[] = ['dps.register', 'dps.status'];

const DPS_ECHOES: readonly Echo[] = DPS_POINTS.flatMap((at): Echo[] => [
  ...[400, 401, 404, 415, 429, 500].map(
    (status): Echo => ({
      name: `${at}: an error body, status ${status}`,
      at,
      action: (said) => ({ kind: 'respond', status, body: errorBody(said) }),
    }),
  ),
  ...[200, 401, 500].flatMap((status): Echo[] => [
    {
      name: `${at}: a page, status ${status}`,
      at,
      action: (said) => ({ kind: 'respond', status, text: `<html><body><h1>Denied</h1>${said}</body></html>` }),
    },
    { name: `${at}: plain text, status ${status}`, at, action: (said) => ({ kind: 'respond', status, text: said }) },
    {
      name: `${at}: JSON that breaks off, status ${status}`,
      at,
      action: (said) => ({ kind: 'respond', status, text: `{"message":${JSON.stringify(said)}` }),
    },
    { name: `${at}: a JSON text, status ${status}`, at, action: (said) => ({ kind: 'respond', status, body: said }) },
    { name: `${at}: a JSON list, status ${status}`, at, action: (said) => ({ kind: 'respond', status, body: [said] }) },
  ]),
  { name: `${at}: failed`, at, action: (said) => ({ kind: 'respond', body: ended('failed', said) }) },
  { name: `${at}: disabled`, at, action: (said) => ({ kind: 'respond', body: ended('disabled', said) }) },
  { name: `${at}: a status word`, at, action: (said) => ({ kind: 'respond', body: ended(said, '') }) },
  ...['assignedHub', 'deviceId', 'connectionProfile'].map(
    (member): Echo => ({
      name: `${at}: ${member}`,
      at,
      action: (said) => ({ kind: 'respond', body: assigned({ [member]: `/${said}` }) }),
    }),
  ),
  {
    name: `${at}: Retry-After`,
    at,
    action: (said) => ({ kind: 'respond', status: 400, retryAfter: printable(said) }),
  },
  {
    name: `${at}: headers`,
    at,
    over: 'https',
    action: (said) => ({
      kind: 'respond',
      status: 401,
      headers: { Date: printable(said), 'WWW-Authenticate': printable(said), 'x-ms-error-code': printable(said) },
    }),
  },
  {
    name: `${at}: the status line`,
    at,
    over: 'https',
    action: (said) => raw(`HTTP/1.1 401 ${printable(said)}\r\nContent-Length: 0\r\n\r\n`),
  },
  {
    name: `${at}: a broken header`,
    at,
    over: 'https',
    action: (said) => raw(`HTTP/1.1 401 No\r\n${said}\u0000\r\n\r\n`),
  },
  { name: `${at}: no HTTP`, at, over: 'https', action: (said) => raw(`${said}\r\n\r\n`) },
  { name: `${at}: no MQTT`, at, over: 'mqtt', action: (said) => raw(said) },
  ...['res/%/?$rid=1', 'res/401/?$rid=%', 'res/401/?%', 'res/200/?$rid=1&retry-after=%', 'res%', 'res/%'].map(
    (topic): Echo => ({
      name: `${at}: topic ${topic}`,
      at,
      over: 'mqtt',
      action: (said) => ({
        kind: 'respond',
        status: 401,
        topic: `$dps/registrations/${topic.replace('%', () => said.replaceAll(/[#+\u0000]/g, encodeURIComponent))}`,
      }),
    }),
  ),
]);

function printable(said: string): string {
  return said.replace(/[^ -~]/g, ' ');
}

function raw(text: string): FaultAction {
  return { kind: 'raw', base64: Buffer.from(text).toString('base64') };
}

/** What ends the wait for an answer that is none. */
const SHORT = { requestTimeoutMs: 900, deadlineMs: 950 } as const;

async function hear(bench: Bench, echo: Echo, transport: 'mqtt' | 'https', said: string): Promise<unknown> {
  bench.emulator.faults.clear();
  const { action } = echo;
  bench.emulator.faults.add({ at: echo.at, action: action(said) as FaultAction });
  const { error, outputs } = await follow(
    bench.options(transport, { ...SHORT, hsm: { kind: 'symmetricKey', registrationId: INDIVIDUAL, key: KEYS.device } }),
  );
  expectNoLeaks(bench.canaries, outputs);
  return error;
}

describe.each(['mqtt', 'https'] as const)('said back over %s', (transport) => {
  it.each(
    DPS_ECHOES.filter(({ over }) => over === undefined || over === transport).map((echo) => [echo.name, echo] as const),
  )('%s', async (_name, echo) => {
    const recording = startRecording();
    const bench = await startBench();
    const token = bench.dpsToken(KEYS.device, INDIVIDUAL);
    const leaks: string[] = [];
    for (const [name, spell] of SPELLINGS) {
      try {
        expect(await hear(bench, echo, transport, spell(token))).toBeDefined();
      } catch (error) {
        const text = String((error as Error).message);
        leaks.push(`${name}: ${[...new Set(text.match(/"channel": "[^"]*"/g) ?? [text.slice(0, 300)])].join(' ')}`);
      }
    }
    expectNoLeaks(bench.canaries, recording.outputs());
    expect(leaks).toEqual([]);
  });
});
