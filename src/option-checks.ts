import { isCancelSignal } from './core/cancel-signal.js';
import { methodNameProblem } from './core/method-name.js';
import { wordsOf } from './core/thrown-words.js';
import { ConfigurationError, type DpsErrorCode } from './errors.js';
import { shownName } from './nearest-name.js';
import { folderProblem } from './path-like.js';
import { plainMembers, plainValues } from './plain-options.js';
import { namesProblem } from './transport-names.js';
import { kindOf } from './value-kind.js';

/** What each option of `provision()` and `run()` can be, and what a plain copy of it is. */

/** A token must outlive a slow connection attempt, or no request would ever be sent with it. */
const MIN_TOKEN_LIFE_SECONDS = 60;
/** More is a slip of units. */
const MAX_TOKEN_LIFE_SECONDS = 366 * 24 * 3_600;
/** DPS takes messages of up to 96 KB (documented limit). */
const MAX_PAYLOAD_BYTES = 96 * 1024;

/** A day: more is a slip of units. */
const MAX_START_SPREAD_MS = 24 * 3_600_000;

/** One check an option: what is wrong with a value that was given, if anything. */
export type Check = (value: unknown) => string | undefined;

/** What a description is at the moment; an object of the application's own is kept, with its methods. */
export function plainHsm(value: unknown): unknown {
  if (!isObject(value)) return value;
  // No description has members of these names, so that none of its own is read twice.
  const isOwn = Object.values(HSM_METHODS)
    .flat()
    .some((name) => typeof value[name] === 'function');
  if (isOwn) return value;
  const members = Object.entries(plainMembers(value, ['kind', 'registrationId']));
  return Object.fromEntries(members.map(([name, member]) => [name, plainValues(member)]));
}

/** What an object of the application's own needs beside `registrationId()`, by its kind. */
const HSM_METHODS: Readonly<Record<string, readonly string[]>> = {
  symmetricKey: ['sign'],
  x509: ['tlsCredential'],
  tpm: ['endorsement', 'activate', 'sign', 'stage', 'commit', 'discard'],
};

export function hsmProblem(value: unknown): string | undefined {
  if (!isObject(value)) return `it must be an object, not ${kindOf(value)}.`;
  const { kind, registrationId } = value;
  // What an entry of a key store is, the store says.
  if (kind === 'keyStore') return undefined;
  const needed = typeof kind === 'string' && Object.hasOwn(HSM_METHODS, kind) ? HSM_METHODS[kind] : undefined;
  if (needed === undefined) return `kind must be one of ${[...Object.keys(HSM_METHODS), 'keyStore'].join(', ')}.`;
  const isOwn = needed.some((name) => typeof value[name] === 'function');
  if (!isOwn && typeof registrationId !== 'function') return undefined;
  const absent = ['registrationId', ...needed].find((name) => typeof value[name] !== 'function');
  return absent === undefined
    ? undefined
    : `${absent} is missing: an object of your own of kind ${kind} needs the method ${absent}().`;
}

export function stateProblem(value: unknown): string | undefined {
  if (typeof value === 'string') return folderProblem(value);
  return isObject(value)
    ? methods(['load', 'save', 'forget'])(value)
    : `it must be the path of a folder, or a store of your own: an object, not ${kindOf(value)}.`;
}

export function startSpreadProblem(value: unknown): string | undefined {
  if (typeof value === 'number' && value >= 0 && value <= MAX_START_SPREAD_MS) return undefined;
  return `it must be a number from 0 to ${MAX_START_SPREAD_MS} (a day in ms), not ${typeof value === 'number' ? String(value) : kindOf(value)}.`;
}

export function plainTriggers(value: unknown): unknown {
  return isObject(value) ? plainMembers(value, ['method', 'desiredProperty']) : value;
}

export function triggersProblem(value: unknown): string | undefined {
  if (!isObject(value)) return `it must be an object such as { method: 'reprovision' }, not ${kindOf(value)}.`;
  const other = Object.keys(value).find((name) => name !== 'method' && name !== 'desiredProperty');
  if (other !== undefined) return `it knows method and desiredProperty, not ${JSON.stringify(shownName(other))}.`;
  const wrong = Object.entries(value).find(
    ([, each]) => each !== undefined && (typeof each !== 'string' || each === ''),
  );
  if (wrong !== undefined) return `${wrong[0]} must be a name, not ${kindOf(wrong[1])}.`;
  const { method, desiredProperty } = value;
  const given = typeof method === 'string' ? methodNameProblem(method) : undefined;
  if (given !== undefined) return `method must be the name of a direct method, not ${given}.`;
  return typeof desiredProperty === 'string' ? desiredPropertyProblem(desiredProperty) : undefined;
}

/** No twin has such a property, so that it would never be heard of again. */
function desiredPropertyProblem(name: string): string | undefined {
  if (name.startsWith('$')) {
    return 'desiredProperty must name a property of your own: those that begin with $ belong to the hub, and never order anything.';
  }
  return /[.$ \p{Cc}]/u.test(name)
    ? 'desiredProperty must be the name of one property, the outermost where they nest: such names have no dot, $, space or control character.'
    : undefined;
}

export function functionProblem(value: unknown): string | undefined {
  return typeof value === 'function' ? undefined : `it must be a function, not ${kindOf(value)}.`;
}

export function caProblem(value: unknown): string | undefined {
  const texts: readonly unknown[] = Array.isArray(value) ? Array.from<unknown>(value) : [value];
  if (texts.length === 0)
    return 'it is empty: give the PEM text of at least one certificate authority, or leave it out.';
  const problems = texts.map((text) => {
    if (typeof text !== 'string')
      return `it must be PEM text, not ${kindOf(text)}${text instanceof Uint8Array ? ": read the file with 'utf8'" : ''}.`;
    if (!text.includes('-----BEGIN ')) return "it must be PEM text, not a path: readFileSync('ca.pem', 'utf8').";
    return undefined;
  });
  return problems.find((problem) => problem !== undefined);
}

/** As the service would read it. */
export function plainPayload(value: unknown): unknown {
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch (error) {
    throw payloadError(`it cannot be written as JSON: ${wordsOf(error)}.`);
  }
  if (json === undefined) throw payloadError(`it cannot be written as JSON: it is ${kindOf(value)}.`);
  const bytes = Buffer.byteLength(json);
  if (bytes <= MAX_PAYLOAD_BYTES) return JSON.parse(json);
  throw payloadError(`it has ${bytes} bytes as JSON; DPS takes ${MAX_PAYLOAD_BYTES} at most.`);
}

function payloadError(wrong: string): ConfigurationError {
  return problem('ERR_DPS_CONFIG_OPTION', 'payload', `Option payload: ${wrong}`);
}

export function signalProblem(value: unknown): string | undefined {
  if (isCancelSignal(value)) return undefined;
  return isObject(value) && 'signal' in value
    ? 'it must be an AbortSignal; of an AbortController pass controller.signal.'
    : `it must be an AbortSignal, not ${kindOf(value)}.`;
}

export function text(check: (text: string) => string | undefined): Check {
  return (value) => (typeof value === 'string' ? check(value) : `it must be a text, not ${kindOf(value)}.`);
}

export function tokenLifeProblem(value: unknown): string | undefined {
  if (typeof value === 'number' && value >= MIN_TOKEN_LIFE_SECONDS && value <= MAX_TOKEN_LIFE_SECONDS) return undefined;
  return `it must be a number from ${MIN_TOKEN_LIFE_SECONDS} to ${MAX_TOKEN_LIFE_SECONDS}, not ${typeof value === 'number' ? String(value) : kindOf(value)}.`;
}

export function positive(): Check {
  return (value) => {
    if (typeof value === 'number' && value > 0) return undefined;
    return `it must be a number above 0, not ${typeof value === 'number' ? String(value) : kindOf(value)}.`;
  };
}

/** One that is named, several, or an object of the application's own. */
export function transport(names: readonly string[], needed: readonly string[]): Check {
  const isOwn = methods(needed);
  return (value) => (typeof value === 'string' || Array.isArray(value) ? namesProblem(value, names) : isOwn(value));
}

export function methods(names: readonly string[]): Check {
  return (value) => {
    if (!isObject(value)) return `it must be an object, not ${kindOf(value)}.`;
    const absent = names.find((name) => typeof value[name] !== 'function');
    return absent === undefined ? undefined : `an object of your own needs the method ${absent}().`;
  };
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function problem(code: DpsErrorCode, option: string, message: string): ConfigurationError {
  return new ConfigurationError({ code, message, option });
}
