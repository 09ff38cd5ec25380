import { types } from 'node:util';
import type { TelemetryMessage } from '../core/hub.js';
import { reportedPatchProblem } from '../core/reported-patch.js';
import type { JsonObject } from '../core/twin.js';
import { ConfigurationError } from '../errors.js';
import { kindOf } from '../value-kind.js';

/** A larger one would cost the connection: the hub closes it without a word. */
export const MAX_TELEMETRY_BYTES: number = 256 * 1024;

/** What is bytes whatever the machine: of items of several bytes each, nobody can tell which order is meant. */
const BYTE_VIEWS: ReadonlySet<string> = new Set(['Uint8Array', 'Uint8ClampedArray', 'Int8Array', 'DataView']);

/** A message whose body is bytes. */
export type EncodedMessage = Omit<TelemetryMessage, 'body'> & { readonly body: Uint8Array };

/**
 * The message with its body as the bytes that go out; bytes stay the very ones that were given.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for a body that is too large, not JSON, or made of numbers that may
 *   mean either.
 */
export function encodeMessage({ body, ...rest }: TelemetryMessage): EncodedMessage {
  const bytes = bytesOf(body);
  const payload = bytes ?? encodeJson(body);
  if (payload.length > MAX_TELEMETRY_BYTES) {
    throw wrongBody(`it has ${payload.length} bytes; the hub takes ${MAX_TELEMETRY_BYTES}`);
  }
  // The hub routes on the body only when these two are set.
  const description = bytes !== undefined ? {} : { contentType: 'application/json', contentEncoding: 'utf-8' };
  return { ...description, ...rest, body: payload };
}

/**
 * The bytes of a body that is bytes, also those of another realm or shared with a worker; `undefined` for what is to go as
 * JSON. Nothing is copied.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for an array of numbers that have several bytes each.
 */
export function bytesOf(body: unknown): Uint8Array | undefined {
  if (body instanceof Uint8Array) return body;
  if (types.isAnyArrayBuffer(body)) return new Uint8Array(body);
  if (!ArrayBuffer.isView(body)) return undefined;
  // What it was made as, whatever class has been put on top.
  const name = String((body as DataView | Uint8Array)[Symbol.toStringTag]);
  if (BYTE_VIEWS.has(name)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  throw wrongBody(
    `it is a ${name}, which may mean its numbers or its bytes; give Array.from(it) for JSON, or new Uint8Array(it.buffer, it.byteOffset, it.byteLength)`,
  );
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
