import type * as Core from '../../src/core/index.js';

/** The core as its door gives it. */
export type CoreDoor = typeof Core;

/** An answer of a service, as text that both engines get; bodies are Base64. */
export interface AnswerVector {
  readonly status: number;
  readonly body: string;
  readonly retryAfter?: string;
  readonly date?: string;
}

/** What both engines are given. Plain JSON. */
export interface Inputs {
  readonly texts: readonly string[];
  readonly bytes: readonly string[];
  readonly answers: readonly AnswerVector[];
  readonly topics: readonly string[];
  readonly retryAfters: readonly string[];
}

const WALL_MS = Date.UTC(2026, 10, 21);

/** Runs everything through the core and gives what came of it as JSON. Nothing but the language is used here either. */
export function runVectors(core: CoreDoor, inputs: Inputs): string {
  const results = {
    sas: sasVectors(core),
    texts: inputs.texts.map((text) => textVector(core, text)),
    bytes: inputs.bytes.map((base64) => bytesVector(core, base64)),
    answers: inputs.answers.map((answer) => answerVector(core, answer)),
    topics: inputs.topics.map((topic) => topicVector(core, topic)),
    retry: inputs.retryAfters.map((text) => retryVector(core, text)),
    budget: budgetVector(core),
    machines: inputs.answers.map((answer, index) => machineVector(core, answer, index)),
    happy: happyVector(core),
  };
  return JSON.stringify(results, plain(core));
}

/** Bytes as Base64, errors by what they say. */
function plain(core: CoreDoor): (key: string, value: unknown) => unknown {
  return (_key, value) => {
    if (value instanceof Uint8Array) return core.encodeBase64(value);
    if (!(value instanceof Error)) return value;
    const { name, message } = value;
    return core.isDpsError(value) ? { ...value, name, message } : { foreign: name, message };
  };
}

/** What `work` gives, or what it throws. */
function outcome(work: () => unknown): unknown {
  try {
    return work() ?? 'nothing';
  } catch (error) {
    return { thrown: error };
  }
}

function sasVectors(core: CoreDoor): unknown {
  const resource = core.dpsResource('0ne00111111', 'dev-1');
  return {
    resource,
    hub: core.hubResource('hub.example:8883', "a'(b)!*"),
    text: core.textToSign(resource, 1_663_952_627.9),
    token: core.formatSasToken({
      resource,
      signature: Uint8Array.from({ length: 32 }, (_, index) => 255 - index),
      expirySeconds: 1_663_952_627,
      keyName: core.DPS_KEY_NAME,
    }),
    derived: core.deviceKeyMessage('Dev-Ü'),
  };
}

function textVector(core: CoreDoor, text: string): unknown {
  const bytes = core.encodeUtf8(text);
  return {
    bytes,
    back: core.decodeUtf8(bytes) === text,
    percent: core.encodeUriComponentStrict(text),
    decoded: core.decodePercent(text),
    problems: [
      core.registrationIdProblem(text),
      core.idScopeProblem(text),
      core.deviceIdProblem(text),
      core.hostNameProblem(text),
    ],
    split: core.splitHostPort(text, 8883),
    endpoint: core.resolveDpsEndpoint(text),
    register: core.registerTopic(text),
    status: core.operationStatusTopic('1', text),
    body: core.encodeRegisterBody({ registrationId: text, payload: { text }, csr: text }),
    base64: core.decodeBase64(text),
    telemetry: outcome(() => core.telemetryTopic('dev-1', { messageId: text, properties: { [`k${text}`]: text } })),
    reported: core.reportedPatchProblem({ key: text, [text]: 1 }),
  };
}

function bytesVector(core: CoreDoor, base64: string): unknown {
  const bytes = core.decodeBase64(base64) ?? new Uint8Array(0);
  return {
    length: bytes.length,
    text: core.decodeUtf8(bytes),
    hex: core.toHex(bytes),
    again: core.encodeBase64(bytes) === base64,
    twin: outcome(() => core.parseTwin(bytes)),
    desired: outcome(() => core.parseDesiredPatch(bytes, 5)),
    hubError: core.hubErrorFrom('the request', 429, bytes),
    challenge: core.readTpmChallenge({ status: 401, body: bytes }),
  };
}

function replyOf(core: CoreDoor, { body, ...reply }: AnswerVector): Core.DpsReply {
  return { kind: 'reply', ...reply, body: core.decodeBase64(body) ?? new Uint8Array(0) };
}

function answerVector(core: CoreDoor, answer: AnswerVector): unknown {
  const reply = replyOf(core, answer);
  return {
    register: core.interpretReply(reply, 'register', WALL_MS),
    status: core.interpretReply(reply, 'operationStatus', WALL_MS),
    lookup: core.interpretStatusLookup(reply, WALL_MS),
  };
}

function topicVector(core: CoreDoor, topic: string): unknown {
  return {
    dps: outcome(() => core.parseResponseTopic(topic)),
    hub: outcome(() => core.parseHubTopic(topic, 'dev-1')),
  };
}

function retryVector(core: CoreDoor, text: string): unknown {
  const ms = core.parseRetryAfter(text, undefined, WALL_MS);
  const attempts = [1, 2, 3, 7, 30, 2_000];
  return {
    ms,
    dated: core.parseRetryAfter(text, 'Sun, 06 Nov 1994 08:49:00 GMT', Number.NaN),
    poll: core.pollDelayMs(ms),
    throttle: attempts.map((attempt) => core.throttleDelayMs(ms, attempt, 0.618)),
    backoff: attempts.map((attempt) => core.backoffMs(attempt, 0.382)),
  };
}

function budgetVector(core: CoreDoor): unknown {
  let budget = core.newRequestBudget(1_000.25);
  return [1_000.25, 1_000.5, 1_000.5, 1_333.3, 2_000.5, 1_500, 9_999].map((nowMs) => {
    const grant = core.takeRequest(budget, nowMs);
    budget = grant.budget;
    return grant;
  });
}

const CONFIG: Core.JourneyConfig = {
  idScope: '0ne00111111',
  registrationId: 'dev-1',
  attestation: 'symmetricKey',
  slots: 2,
  payload: { model: 'Gerät' },
  transport: 'vector',
  endpoint: 'dps.example',
  deadlineMs: 300_000,
  connectTimeoutMs: 20_000,
  requestTimeoutMs: 10_000,
  hubTimeoutMs: 50_000,
  tokenLifeSeconds: 3_600,
};

const TWIN: Core.Twin = { desired: { version: 3, properties: { a: 1 } }, reported: { version: 2, properties: {} } };

/** A whole journey: every order is carried out, each request gets the same answer, time goes from one wake-up to the next. */
function machineVector(core: CoreDoor, answer: AnswerVector, index: number): unknown {
  const attestation = (['symmetricKey', 'x509', 'tpm'] as const)[index % 3] ?? 'x509';
  const log: unknown[] = [];
  let nowMs = 0.5;
  let journey = core.newJourney({ ...CONFIG, attestation });
  let inputs: Core.JourneyInput[] = [{ type: 'Started' }];
  for (let step = 0; step < 60 && journey.state.name !== 'Done'; step += 1) {
    const input = inputs.shift() ?? { type: 'Woke' };
    if (input.type === 'Woke') nowMs = Math.max(nowMs, core.journeyWakeAtMs(journey) ?? nowMs);
    const now = { monotonicMs: nowMs, wallMs: WALL_MS + nowMs, random: (step % 10) / 10 };
    const next = core.stepJourney(journey, input, now);
    journey = next.journey;
    log.push({ input: input.type, effects: next.effects, wakeAtMs: core.journeyWakeAtMs(journey) });
    inputs = [...inputs, ...next.effects.flatMap((effect) => inputFor(core, effect, answer))];
  }
  return { log, state: journey.state.name };
}

function inputFor(core: CoreDoor, effect: Core.JourneyEffect, answer: AnswerVector): Core.JourneyInput[] {
  switch (effect.type) {
    case 'PrepareCredential':
      return [{ type: 'CredentialReady', ticket: effect.ticket }];
    case 'OpenConnection':
      return [{ type: 'ConnectionOpened', ticket: effect.ticket }];
    case 'SendRequest':
      return [{ type: 'ReplyReceived', ticket: effect.ticket, reply: replyOf(core, answer) }];
    case 'StageIdentity':
      return [{ type: 'IdentityStaged', ticket: effect.ticket }];
    case 'OpenHub':
      return [{ type: 'HubReached', ticket: effect.ticket, twin: TWIN }];
    case 'CommitIdentity':
      return [{ type: 'IdentityCommitted', ticket: effect.ticket }];
    default:
      return [];
  }
}

/** Registers, loses the connection, polls, arrives, is refused by the hub once, and follows the twin. */
function happyVector(core: CoreDoor): unknown {
  const json = (status: number, body: unknown): Core.DpsReply => ({
    kind: 'reply',
    status,
    body: core.encodeUtf8(JSON.stringify(body)),
  });
  const state = { assignedHub: 'hub.example', deviceId: 'dev-1', payload: { grüße: [1, null] } };
  const lost = new core.TransportError({
    code: 'ERR_DPS_CONNECTION_LOST',
    message: 'lost',
    phase: 'request',
    peer: 'dps.example',
    retryable: true,
  });
  const refused = new core.TransportError({
    code: 'ERR_DPS_CONNACK_UNAUTHORIZED',
    message: 'refused',
    phase: 'mqtt-connect',
    peer: 'hub.example',
    retryable: false,
  });
  const script: ((ticket: number) => Core.JourneyInput)[] = [
    () => ({ type: 'Started' }),
    (ticket) => ({ type: 'CredentialReady', ticket }),
    (ticket) => ({ type: 'ConnectionOpened', ticket }),
    (ticket) => ({ type: 'ReplyReceived', ticket, reply: json(202, { operationId: 'op', status: 'assigning' }) }),
    () => ({ type: 'Woke' }),
    (ticket) => ({ type: 'OperationFailed', ticket, error: lost }),
    () => ({ type: 'Woke' }),
    (ticket) => ({ type: 'ConnectionOpened', ticket }),
    (ticket) => ({ type: 'ReplyReceived', ticket, reply: json(200, { status: 'assigned', registrationState: state }) }),
    (ticket) => ({ type: 'OperationFailed', ticket, error: refused }),
    () => ({ type: 'Woke' }),
    (ticket) => ({ type: 'HubReached', ticket, twin: TWIN }),
  ];
  let journey = core.newJourney(CONFIG);
  let ticket = 0;
  let nowMs = 1_000;
  const log = script.map((make) => {
    const input = make(ticket);
    nowMs = Math.max(nowMs + 1, input.type === 'Woke' ? (core.journeyWakeAtMs(journey) ?? 0) : 0);
    const now = { monotonicMs: nowMs, wallMs: WALL_MS + nowMs, random: 0.25 };
    const step = core.stepJourney(journey, input, now);
    journey = step.journey;
    for (const effect of step.effects) if ('ticket' in effect) ticket = effect.ticket;
    return step.effects;
  });
  return { log, state: journey.state.name, twin: twinVector(core) };
}

function twinVector(core: CoreDoor): unknown {
  const inputs: Core.TwinSyncInput[] = [
    { type: 'Connected' },
    { type: 'PushReceived', push: { version: 4, patch: { b: { c: 1 } } } },
    { type: 'TwinAnswered', ticket: 1, twin: TWIN },
    { type: 'PushReceived', push: { version: 5, patch: { a: null } } },
    { type: 'PushReceived', push: { version: 9, patch: { d: 1 } } },
    { type: 'ReadFailed', ticket: 2, reason: 'silence' },
    { type: 'TwinAnswered', ticket: 3, twin: { ...TWIN, desired: { version: 9, properties: { d: 1 } } } },
    { type: 'ReportAccepted', version: 3, patch: { r: 1 } },
  ];
  let sync = core.newTwinSync();
  return inputs.map((input) => {
    const step = core.stepTwinSync(sync, input);
    sync = step.sync;
    return step;
  });
}
