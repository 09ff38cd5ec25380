import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../src/core/twin.js';
import type { FaultPoint } from '../../src/emulator/index.js';
import { type Bench, follow, INDIVIDUAL, KEYS, startBench } from './bench.js';
import { expectNoLeaks, startRecording } from './channels.js';
import {
  type Echo,
  errorBody,
  FEW_SPELLINGS,
  foreignBodies,
  inHeader,
  noMqtt,
  raw,
  SPELLINGS,
  strangeTopic,
} from './echoes.js';

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

function bodies(at: FaultPoint): Echo[] {
  return [
    ...[400, 401, 404, 429, 500].map(
      (status): Echo => ({
        name: `${at}: an error body, status ${status}`,
        at,
        action: (said) => ({ kind: 'respond', status, body: errorBody(said) }),
      }),
    ),
    ...[200, 401, 500].flatMap((status) => foreignBodies(at, status)),
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
  ];
}

const AROUND_THE_BODY: readonly Echo[] = [
  {
    name: 'Retry-After',
    at: 'dps.register',
    action: (said) => ({ kind: 'respond', status: 400, retryAfter: inHeader(said) }),
  },
  {
    name: 'headers',
    at: 'dps.register',
    over: 'https',
    action: (said) => ({
      kind: 'respond',
      status: 401,
      headers: { Date: inHeader(said), 'WWW-Authenticate': inHeader(said), 'x-ms-error-code': inHeader(said) },
    }),
  },
  {
    name: 'the status line',
    at: 'dps.register',
    over: 'https',
    action: (said) => raw(`HTTP/1.1 401 ${inHeader(said)}\r\nContent-Length: 0\r\n\r\n`),
  },
  {
    name: 'a broken header',
    at: 'dps.register',
    over: 'https',
    action: (said) => raw(`HTTP/1.1 401 No\r\n${said}\u0000\r\n\r\n`),
  },
  { name: 'no HTTP', at: 'dps.register', over: 'https', action: (said) => raw(`${said}\r\n\r\n`) },
  { name: 'no MQTT', at: 'dps.register', over: 'mqtt', action: noMqtt },
  { name: 'no MQTT instead of CONNACK', at: 'dps.connack', over: 'mqtt', action: noMqtt },
  ...['res/%/?$rid=1', 'res/401/?%', 'res/401/?$rid=%&$rid=2', 'res%', 'res/%'].map((topic) =>
    strangeTopic('dps.register', `$dps/registrations/${topic}`, 401),
  ),
];

/** Replies to somebody else: nothing ends but the wait. */
const UNHEARD: readonly Echo[] = ['res/401/?$rid=%', 'res/200/?$rid=1&retry-after=%'].map((topic) =>
  strangeTopic('dps.register', `$dps/registrations/${topic}`, 401),
);

/** The retries of a throttled or broken service do not fit into this. */
const DEADLINE_MS = 950;

async function hear(bench: Bench, echo: Echo, transport: 'mqtt' | 'https', said: string): Promise<void> {
  bench.emulator.faults.clear();
  bench.emulator.faults.add({ at: echo.at, action: echo.action(said) });
  const { error, outputs } = await follow(bench.options(transport, { deadlineMs: DEADLINE_MS }));
  expect(error).toBeDefined();
  expectNoLeaks(bench.canaries, outputs);
}

async function hearAll(echo: Echo, transport: 'mqtt' | 'https', spellings = SPELLINGS): Promise<void> {
  const recording = startRecording();
  const bench = await startBench();
  const token = bench.dpsToken(KEYS.device, INDIVIDUAL);
  for (const [, spell] of spellings) await hear(bench, echo, transport, spell(token));
  expectNoLeaks(bench.canaries, recording.outputs());
}

const named = (echoes: readonly Echo[], transport: 'mqtt' | 'https') =>
  echoes.filter(({ over }) => over === undefined || over === transport).map((echo) => [echo.name, echo] as const);

describe.each(['mqtt', 'https'] as const)('what DPS says back over %s', (transport) => {
  // Both transports and both requests end in the same reading of bodies.
  const spellings = transport === 'mqtt' ? SPELLINGS : FEW_SPELLINGS;
  const echoes = [...bodies('dps.register'), ...AROUND_THE_BODY];
  it.each(named(echoes, transport))('%s', (_name, echo) => hearAll(echo, transport, spellings));
  it.each(named(bodies('dps.status'), transport))('%s', (_name, echo) => hearAll(echo, transport, FEW_SPELLINGS));
});

it.each(named(UNHEARD, 'mqtt'))('a reply that nobody waits for: %s', (_name, echo) =>
  hearAll(echo, 'mqtt', SPELLINGS.slice(0, 1)),
);
