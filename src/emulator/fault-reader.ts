import { decodeBase64 } from '../core/bytes.js';
import {
  openSection,
  optional,
  type Read,
  readChoice,
  readInteger,
  readJsonObject,
  readText,
  required,
  type Section,
  wrongOption,
} from './config-reader.js';
import type { Fault, FaultAction, FaultPoint, FaultResponse, FaultSubject } from './fault.js';
import type { JsonValue } from './json.js';
import { TPM_BLOB_DAMAGES } from './tpm-activation.js';

const CONNECTION_STEPS = ['silent', 'cut', 'wait', 'raw'] as const;
const REPLY_STEPS = [...CONNECTION_STEPS, 'respond', 'retryAfter'] as const;

const ACTIONS_AT: Readonly<Record<FaultPoint, readonly FaultAction['kind'][]>> = {
  'dps.connack': [...CONNECTION_STEPS, 'connack'],
  'dps.suback': [...CONNECTION_STEPS, 'suback'],
  'dps.puback': CONNECTION_STEPS,
  'dps.ping': CONNECTION_STEPS,
  'dps.challenge': [...CONNECTION_STEPS, 'respond', 'tpmBlob'],
  'dps.register': [...REPLY_STEPS, 'delay', 'assignImmediately', 'outcome', 'payload', 'tpmBlob'],
  'dps.status': REPLY_STEPS,
  'dps.lookup': [...CONNECTION_STEPS, 'respond'],
  'hub.connack': [...CONNECTION_STEPS, 'connack', 'loseSession'],
  'hub.suback': [...CONNECTION_STEPS, 'suback', 'pushDesired'],
  'hub.puback': CONNECTION_STEPS,
  'hub.ping': CONNECTION_STEPS,
  'hub.twinGet': [...CONNECTION_STEPS, 'respond', 'pushDesired'],
  'hub.twinPatch': [...CONNECTION_STEPS, 'respond'],
  'hub.desiredPush': CONNECTION_STEPS,
  'hub.method': CONNECTION_STEPS,
  'hub.cloudToDevice': CONNECTION_STEPS,
};

/** Reads a fault from an object or a configuration file. @throws {ConfigurationError} */
export const readFault: Read<Fault> = (value, path) => {
  const section = openSection(value, path, ['at', 'action', 'times', 'skip', 'when']);
  const at = required(section, 'at', readChoice(Object.keys(ACTIONS_AT) as FaultPoint[]));
  const readAt: Read<FaultAction> = (inner, innerPath) => readAction(inner, innerPath, at);
  const action = required(section, 'action', (inner, innerPath) =>
    Array.isArray(inner)
      ? inner.map((item, index) => readAt(item, `${innerPath}[${index}]`))
      : readAt(inner, innerPath),
  );
  const times = section.values.times === Number.POSITIVE_INFINITY ? undefined : optional(section, 'times', readCount);
  const skip = optional(section, 'skip', readInteger(0, 1_000_000));
  const when = optional(section, 'when', readSubject);
  return { at, action, ...(times && { times }), ...(skip && { skip }), ...(when && { when }) };
};

const readCount: Read<number> = readInteger(1, 1_000_000);

const readSubject: Read<FaultSubject> = (value, path) => {
  const section = openSection(value, path, ['protocol', 'idScope', 'hub', 'device']);
  return compact({
    protocol: optional(section, 'protocol', readChoice(['mqtt', 'amqp', 'https'])),
    idScope: optional(section, 'idScope', readText),
    hub: optional(section, 'hub', readText),
    device: optional(section, 'device', readText),
  });
};

function readAction(value: unknown, path: string, at: FaultPoint): FaultAction {
  const kind = readChoice(ACTIONS_AT[at])(readJsonObject(value, path).kind, `${path}.kind`);
  const open = (...keys: string[]): Section => openSection(value, path, ['kind', ...keys]);
  switch (kind) {
    case 'silent':
    case 'assignImmediately':
    case 'loseSession':
      open();
      return { kind };
    case 'cut':
      return compact({ kind, when: optional(open('when'), 'when', readChoice(['before', 'after'])) });
    case 'wait':
      return { kind, ms: required(open('ms'), 'ms', readInteger(0, 86_400_000)) };
    case 'raw':
      return { kind, base64: required(open('base64'), 'base64', readBase64) };
    case 'connack':
    case 'suback':
      return { kind, code: required(open('code'), 'code', readInteger(0, 255)) };
    case 'respond':
      return readResponse(open('status', 'body', 'text', 'base64', 'retryAfter', 'headers', 'topic'));
    case 'retryAfter':
      return { kind, value: optional(open('value'), 'value', readHeaderText) ?? null };
    case 'delay':
      return { kind, polls: required(open('polls'), 'polls', readCount) };
    case 'outcome':
      return readOutcome(open('status', 'errorCode', 'errorMessage'));
    case 'payload':
      return { kind, payload: required(open('payload'), 'payload', readJsonObject) };
    case 'tpmBlob':
      return { kind, damage: required(open('damage'), 'damage', readChoice(TPM_BLOB_DAMAGES)) };
    case 'pushDesired':
      return readPush(open('patch', 'answer'));
  }
}

function readResponse(section: Section): FaultResponse {
  return compact({
    kind: 'respond' as const,
    status: optional(section, 'status', readInteger(200, 599)),
    // Null is a body of its own here, unlike elsewhere in a configuration.
    body: section.values.body as JsonValue | undefined,
    text: optional(section, 'text', (value, path) => (value === '' ? '' : readText(value, path))),
    base64: optional(section, 'base64', readBase64),
    retryAfter: optional(section, 'retryAfter', readHeaderText),
    headers: optional(section, 'headers', readHeaders),
    topic: optional(section, 'topic', readText),
  });
}

function readOutcome(section: Section): FaultAction {
  return compact({
    kind: 'outcome' as const,
    status: required(section, 'status', readChoice(['failed', 'disabled'])),
    errorCode: optional(section, 'errorCode', readInteger(0, 2 ** 31 - 1)),
    errorMessage: optional(section, 'errorMessage', readText),
  });
}

function readPush(section: Section): FaultAction {
  return compact({
    kind: 'pushDesired' as const,
    patch: required(section, 'patch', readJsonObject),
    answer: optional(section, 'answer', readChoice(['fresh', 'stale'])),
  });
}

const readBase64: Read<string> = (value, path) => {
  if (typeof value === 'string' && decodeBase64(value) !== undefined) return value;
  throw wrongOption(path, 'must be Base64');
};

/** What may stand in an HTTP header. */
const readHeaderText: Read<string> = (value, path) => {
  if (typeof value === 'string' && /^[\x20-\x7e]*$/.test(value)) return value;
  throw wrongOption(path, 'must be printable ASCII text');
};

const readHeaders: Read<Readonly<Record<string, string>>> = (value, path) => {
  const entries = Object.entries(readJsonObject(value, path));
  return Object.fromEntries(
    entries.map(([name, text]) => {
      if (!/^[A-Za-z0-9-]+$/.test(name))
        throw wrongOption(path, `has a header name that HTTP does not allow: "${name}"`);
      return [name, readHeaderText(text, `${path}.${name}`)];
    }),
  );
};

/** The object without members that are undefined, as exact optional properties want it. */
function compact<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const present = Object.entries(value).filter(([, member]) => member !== undefined);
  return Object.fromEntries(present) as { [K in keyof T]: Exclude<T[K], undefined> };
}
