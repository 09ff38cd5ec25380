import { concatBytes } from '../../src/core/bytes.js';
import type { TpmCommand, TpmEntity } from './commands.js';
import type { CommandSession, SessionAnswer } from './sessions.js';
import { sha256, TpmFormatError, TpmReader, u16, u32 } from './structures.js';

/**
 * Commands and responses as bytes.
 *
 * ```
 * command    tag(2) size(4) code(4) handles(4 each) [authorizationSize(4) entries] parameters
 * response   tag(2) size(4) rc(4) [handle(4)] [parameterSize(4)] parameters [answers]
 * ```
 *
 * What is in brackets after `rc` is there with tag 8002 (sessions) or for commands that give a handle. An error is the
 * ten bytes of the head, tag 8001.
 *
 * @see TPM 2.0 Library, Part 1, section 18 "Command/Response Structure"
 */
export const HEAD_BYTES = 10;
/** No TPM takes or gives more: the kernel's limit as well. */
export const MAX_MESSAGE_BYTES = 4096;

const NO_SESSIONS = 0x8001;
const SESSIONS = 0x8002;

export function encodeCommand(command: TpmCommand<unknown>, sessions: readonly CommandSession[]): Uint8Array {
  const handles = concatBytes(...command.handles.map(({ handle }) => u32(handle)));
  const parameters = sessions.reduce(encryptFirst, command.parameters);
  const cpHash = (): Uint8Array => sha256(u32(command.code), ...command.handles.map(nameOfEntity), parameters);
  const entries = concatBytes(...sessions.map((session) => session.authorize(cpHash)));
  const authorizations = sessions.length === 0 ? entries : concatBytes(u32(entries.length), entries);
  const body = concatBytes(handles, authorizations, parameters);
  const tag = sessions.length === 0 ? NO_SESSIONS : SESSIONS;
  return concatBytes(u16(tag), u32(HEAD_BYTES + body.length), u32(command.code), body);
}

export interface ResponseHead {
  readonly tag: number;
  readonly code: number;
  readonly body: Uint8Array;
}

/** @throws {TpmFormatError} when it is no response, or not a whole one. */
export function readResponseHead(response: Uint8Array, what: string): ResponseHead {
  const reader = new TpmReader(response, what);
  const tag = reader.u16('the tag');
  const size = reader.u32('the size');
  const code = reader.u32('the response code');
  if (size !== response.length) {
    throw new TpmFormatError(`${what} says that it has ${size} bytes, and has ${response.length}`);
  }
  // A TPM 1.2, or a TPM 2.0 that was sent a broken tag, answers with tag 00c4 and a code of its own.
  if (tag !== NO_SESSIONS && tag !== SESSIONS && tag !== 0x00c4) {
    throw new TpmFormatError(`${what} begins with ${tag.toString(16).padStart(4, '0')}, which no TPM 2.0 sends`);
  }
  if (code !== 0 && reader.left > 0) throw new TpmFormatError(`${reader.left} bytes follow the error in ${what}`);
  return { tag, code, body: reader.rest() };
}

/**
 * Reads the response to a command that succeeded.
 *
 * @param own is told of the handle in it before anything else can go wrong, so that it can be flushed.
 * @throws {TpmFormatError}
 */
export function readResponse<T>(
  command: TpmCommand<T>,
  sessions: readonly CommandSession[],
  { tag, body }: ResponseHead,
  own: (handle: number) => void,
): T {
  const what = `the response to ${command.name}`;
  const reader = new TpmReader(body, what);
  const handle = command.givesHandle ? reader.u32('the handle') : 0;
  if (command.givesHandle) own(handle);
  if (tag !== (sessions.length === 0 ? NO_SESSIONS : SESSIONS)) {
    throw new TpmFormatError(
      `${what} has the tag ${tag.toString(16).padStart(4, '0')}, which is not that of the command`,
    );
  }
  const parameters =
    sessions.length === 0 ? reader.rest() : reader.take(reader.u32('the parameter size'), 'parameters');
  const rpHash = (): Uint8Array => sha256(u32(0), u32(command.code), parameters);
  for (const session of sessions) {
    const answer = readAnswer(reader);
    session.acknowledge?.(answer, rpHash);
  }
  reader.end();
  const parameterReader = new TpmReader(sessions.reduce(decryptFirst, parameters), what);
  const result = command.read(parameterReader, handle);
  parameterReader.end();
  return result;
}

function readAnswer(reader: TpmReader): SessionAnswer {
  return {
    nonceTpm: reader.tpm2b('nonceTPM of a session'),
    attributes: reader.u8('attributes of a session'),
    hmac: reader.tpm2b('the acknowledgment of a session'),
  };
}

function encryptFirst(parameters: Uint8Array, { encrypt }: CommandSession): Uint8Array {
  return encrypt === undefined ? parameters : replaceFirst(parameters, encrypt);
}

function decryptFirst(parameters: Uint8Array, { decrypt }: CommandSession): Uint8Array {
  return decrypt === undefined ? parameters : replaceFirst(parameters, decrypt);
}

/** Of the first parameter only what follows its size is encrypted. */
function replaceFirst(parameters: Uint8Array, replace: (inside: Uint8Array) => Uint8Array): Uint8Array {
  const reader = new TpmReader(parameters, 'the parameters');
  const inside = reader.tpm2b('the first parameter');
  return concatBytes(u16(inside.length), replace(inside), reader.rest());
}

/** Hierarchies, sessions and whatever else has no public area are named by their handle. */
function nameOfEntity({ handle, name }: TpmEntity): Uint8Array {
  return name ?? u32(handle);
}
