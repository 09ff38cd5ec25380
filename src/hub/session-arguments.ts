import { isCancelSignal } from '../core/cancel-signal.js';
import type { TelemetryMessage } from '../core/hub.js';
import { isJsonObject } from '../core/json-body.js';
import { methodNameProblem } from '../core/method-name.js';
import type { JsonValue } from '../core/twin.js';
import { ConfigurationError, type DpsErrorCode } from '../errors.js';
import { knownNamesHint, shownName } from '../nearest-name.js';
import { kindOf } from '../value-kind.js';

/** What an application hands to a session is looked at before anything is sent, queued or registered. */

const TELEMETRY_MEMBERS: { readonly [Name in keyof Required<TelemetryMessage>]: 'body' | 'text' | 'properties' } = {
  body: 'body',
  messageId: 'text',
  correlationId: 'text',
  contentType: 'text',
  contentEncoding: 'text',
  creationTimeUtc: 'text',
  component: 'text',
  properties: 'properties',
};

/**
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for what is no message, `ERR_DPS_CONFIG_UNKNOWN_OPTION` with the
 * nearest known name for a member that messages do not have. What the body holds is judged when it is written.
 */
export function checkTelemetry(message: unknown): asserts message is TelemetryMessage {
  if (!isObject(message)) {
    throw argumentError(
      'message',
      `sendTelemetry() takes a message such as { body: { temperature: 21.5 } }, not ${kindOf(message)}.`,
    );
  }
  for (const [name, value] of Object.entries(message)) {
    if (!Object.hasOwn(TELEMETRY_MEMBERS, name)) throw unknownMember(name);
    const kind = TELEMETRY_MEMBERS[name as keyof TelemetryMessage];
    if (value === undefined || kind === 'body') continue;
    if (kind === 'properties') checkProperties(value);
    else if (typeof value !== 'string')
      throw argumentError(name, `The ${name} of a telemetry message must be a text, not ${kindOf(value)}.`);
  }
  if (message.body === undefined) {
    throw argumentError(
      'body',
      'The telemetry message has no body. Give one, such as { body: { temperature: 21.5 } }.',
    );
  }
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` when there is nothing to merge into the reported properties. */
export function checkPatch(patch: unknown): void {
  if (isJsonObject(patch as JsonValue)) return;
  throw argumentError(
    'patch',
    `report() takes an object of properties such as { firmware: '1.2.0' }, not ${kindOf(patch)}.`,
  );
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for what is no function; `method` is the one that was called. */
export function checkFunction(value: unknown, argument: 'listener' | 'handler', method: string): void {
  if (typeof value === 'function') return;
  throw argumentError(argument, `${method} needs a function as ${argument}, not ${kindOf(value)}.`);
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for what cannot be the name of a direct method. */
export function checkMethodName(name: unknown): void {
  const given = typeof name === 'string' ? methodNameProblem(name) : kindOf(name);
  if (given === undefined) return;
  throw argumentError('name', `onMethod() needs the name of a direct method as a text, not ${given}.`);
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for what cannot cancel; `call` is the one it was given to. */
export function checkSignal(signal: unknown, call: string): void {
  if (signal === undefined || isCancelSignal(signal)) return;
  const hint = isObject(signal) && 'signal' in signal ? ' Of an AbortController pass controller.signal.' : '';
  throw argumentError('signal', `${call} takes an AbortSignal as signal, not ${kindOf(signal)}.${hint}`);
}

function checkProperties(properties: unknown): void {
  if (!isObject(properties)) {
    throw argumentError(
      'properties',
      `The properties of a telemetry message must be an object, not ${kindOf(properties)}.`,
    );
  }
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || typeof value === 'string') continue;
    const shown = JSON.stringify(shownName(name));
    throw argumentError('properties', `The telemetry property ${shown} must be a text, not ${kindOf(value)}.`);
  }
}

function unknownMember(name: string): ConfigurationError {
  const known = Object.keys(TELEMETRY_MEMBERS);
  const shown = shownName(name);
  const message = `A telemetry message has no member ${JSON.stringify(shown)}. ${knownNamesHint(name, known)}`;
  return argumentError(shown, message, 'ERR_DPS_CONFIG_UNKNOWN_OPTION');
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}

function argumentError(
  option: string,
  message: string,
  code: DpsErrorCode = 'ERR_DPS_CONFIG_OPTION',
): ConfigurationError {
  return new ConfigurationError({ code, message, option });
}
