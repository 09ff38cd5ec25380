import type { TelemetryMessage } from '../core/hub.js';
import { reportedPatchProblem } from '../core/reported-patch.js';
import type { JsonObject } from '../core/twin.js';
import { ConfigurationError } from '../errors.js';
import { kindOf } from '../value-kind.js';

/** A larger one would cost the connection: the hub closes it without a word. */
export const MAX_TELEMETRY_BYTES: number = 256 * 1024;

/** A message whose body is bytes. */
export type EncodedMessage = Omit<TelemetryMessage, 'body'> & { readonly body: Uint8Array };

/**
 * The message with its body as the bytes that go out; bytes stay the very ones that were given.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for a body that is too large or not JSON.
 */
export function encodeMessage({ body, ...rest }: TelemetryMessage): EncodedMessage {
  const isBytes = body instanceof Uint8Array;
  const payload = isBytes ? body : encodeJson(body);
  if (payload.length > MAX_TELEMETRY_BYTES) {
    throw wrongBody(`it has ${payload.length} bytes; the hub takes ${MAX_TELEMETRY_BYTES}`);
  }
  // The hub routes on the body only when these two are set.
  const description = isBytes ? {} : { contentType: 'application/json', contentEncoding: 'utf-8' };
  return { ...description, ...rest, body: payload };
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for a patch that the hub would refuse. */
export function reportText(patch: JsonObject): string {
  const found = reportedPatchProblem(patch);
  if (found === undefined) return JSON.stringify(patch);
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `The reported properties were not sent, because the hub would refuse them: ${found.path}: ${found.problem}.`,
    option: found.path,
  });
}

function encodeJson(body: unknown): Uint8Array {
  let text: string | undefined;
  try {
    text = JSON.stringify(body);
  } catch (error) {
    throw wrongBody(`JSON cannot carry it (${error instanceof Error ? error.name : 'unknown error'})`);
  }
  if (text === undefined) throw wrongBody(`JSON cannot carry ${kindOf(body)}`);
  return new TextEncoder().encode(text);
}

function wrongBody(problem: string): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `The telemetry message was not sent because of its body: ${problem}.`,
    option: 'body',
  });
}
