import { hex } from './structures.js';

/** What a TPM's response code says. */
export interface TpmResponseCode {
  readonly raw: number;
  /** As in the specification, e.g. `TPM_RC_BAD_AUTH`; `unknown code` for one that is not in it. */
  readonly name: string;
  readonly sentence: string;
  /** What of the command it is about: `parameter 1`, `handle 2`, `session 1`. */
  readonly about: string | undefined;
  /** Who says so: the TPM itself, or the kernel's resource manager in its place. */
  readonly layer: 'TPM' | 'resource manager' | 'software';
}

type Texts = Readonly<Record<number, readonly [name: string, sentence: string]>>;

/** TPM 2.0 Library, Part 2, table "Format-One response codes": error number in bits 0..5. */
const FORMAT_ONE: Texts = {
  1: ['ASYMMETRIC', 'the asymmetric algorithm is not supported or not correct'],
  2: ['ATTRIBUTES', 'inconsistent attributes'],
  3: ['HASH', 'the hash algorithm is not supported or not appropriate'],
  4: ['VALUE', 'a value is out of range or not correct for the context'],
  5: ['HIERARCHY', 'the hierarchy is not enabled or not correct for the use'],
  7: ['KEY_SIZE', 'the key size is not supported'],
  8: ['MGF', 'the mask generation function is not supported'],
  9: ['MODE', 'the mode of operation is not supported'],
  10: ['TYPE', 'the type of the value is not appropriate for the use'],
  11: ['HANDLE', 'the handle is not correct for the use, or there is nothing at it'],
  12: ['KDF', 'the key derivation function is not supported'],
  13: ['RANGE', 'a value was out of the allowed range'],
  14: ['AUTH_FAIL', 'the authorization failed, and the dictionary attack counter was raised'],
  15: ['NONCE', 'the nonce has the wrong size or value'],
  16: ['PP', 'physical presence is required'],
  18: ['SCHEME', 'the scheme is not supported or not compatible'],
  21: ['SIZE', 'a structure has the wrong size'],
  22: ['SYMMETRIC', 'the symmetric algorithm or key size is not supported'],
  23: ['TAG', 'the structure tag is not correct'],
  24: ['SELECTOR', 'the union selector is not correct'],
  26: ['INSUFFICIENT', 'there were too few bytes to unmarshal a value'],
  27: ['SIGNATURE', 'the signature is not valid'],
  28: ['KEY', 'the key fields are not compatible with the use'],
  29: ['POLICY_FAIL', 'a policy check failed'],
  31: ['INTEGRITY', 'the integrity check failed'],
  32: ['TICKET', 'the ticket is not valid'],
  33: ['RESERVED_BITS', 'reserved bits are not zero'],
  34: ['BAD_AUTH', 'the authorization failed; the dictionary attack protection does not count it'],
  35: ['EXPIRED', 'the policy has expired'],
  36: ['POLICY_CC', 'the command code of the policy is not the command code of the command'],
  37: ['BINDING', 'the public and sensitive parts are not cryptographically bound'],
  38: ['CURVE', 'the curve is not supported'],
  39: ['ECC_POINT', 'the point is not on the curve'],
  40: ['FW_LIMITED', 'the object is bound to a firmware version'],
  41: ['SVN_LIMITED', 'the object is bound to a security version'],
};

/** Format zero, errors (bit 8 set, bit 11 clear): error number in bits 0..6. */
const ERRORS: Texts = {
  0: ['INITIALIZE', 'the TPM is not started, or is started already'],
  1: ['FAILURE', 'the command failed, or the TPM is in failure mode'],
  3: ['SEQUENCE', 'the sequence handle is not used properly'],
  11: ['PRIVATE', 'not currently used'],
  25: ['HMAC', 'not currently used'],
  32: ['DISABLED', 'the command is disabled'],
  33: ['EXCLUSIVE', 'an exclusive session is active'],
  36: ['AUTH_TYPE', 'the authorization handle is not correct for the command'],
  37: ['AUTH_MISSING', 'the command requires an authorization session'],
  38: ['POLICY', 'the policy failed'],
  39: ['PCR', 'a PCR check failed'],
  40: ['PCR_CHANGED', 'PCRs have changed since they were checked'],
  45: ['UPGRADE', 'the TPM is in field upgrade mode'],
  46: ['TOO_MANY_CONTEXTS', 'the context counter is at its maximum'],
  47: ['AUTH_UNAVAILABLE', 'the authorization value or policy is not available for the object'],
  48: ['REBOOT', 'a restart of the TPM is required'],
  49: ['UNBALANCED', 'the protection algorithms are not balanced'],
  66: ['COMMAND_SIZE', 'the command has the wrong size'],
  67: ['COMMAND_CODE', 'the command is not supported'],
  68: ['AUTHSIZE', 'the authorization area has the wrong size'],
  69: ['AUTH_CONTEXT', 'a session was used where none is allowed'],
  70: ['NV_RANGE', 'the offset is out of range'],
  71: ['NV_SIZE', 'the allocation is larger than allowed'],
  72: ['NV_LOCKED', 'access is locked'],
  73: ['NV_AUTHORIZATION', 'access is not authorized'],
  74: ['NV_UNINITIALIZED', 'an NV index is used before it was written'],
  75: ['NV_SPACE', 'there is not enough persistent memory left'],
  76: ['NV_DEFINED', 'the persistent handle or NV index is already in use'],
  80: ['BAD_CONTEXT', 'the saved context is not valid'],
  81: ['CPHASH', 'the command parameter hash is set already or not correct'],
  82: ['PARENT', 'the handle is not that of a parent'],
  83: ['NEEDS_TEST', 'a self test is needed'],
  84: ['NO_RESULT', 'there is no result'],
  85: ['SENSITIVE', 'the sensitive area did not unmarshal'],
};

/** Format zero, warnings (bits 8 and 11 set). */
const WARNINGS: Texts = {
  1: ['CONTEXT_GAP', 'the gap between saved contexts is too large'],
  2: ['OBJECT_MEMORY', 'there is no room for another loaded object'],
  3: ['SESSION_MEMORY', 'there is no room for another loaded session'],
  4: ['MEMORY', 'there is no memory left'],
  5: ['SESSION_HANDLES', 'there is no session handle left'],
  6: ['OBJECT_HANDLES', 'there is no object handle left'],
  7: ['LOCALITY', 'the locality is not allowed'],
  8: ['YIELDED', 'the command was suspended; it is to be sent again'],
  9: ['CANCELED', 'the command was cancelled'],
  10: ['TESTING', 'the TPM is testing itself'],
  32: ['NV_RATE', 'the TPM slows down writes to spare its persistent memory'],
  33: ['LOCKOUT', 'the TPM is in dictionary attack lockout'],
  34: ['RETRY', 'the TPM was not able to start the command'],
  35: ['NV_UNAVAILABLE', 'persistent memory is not available right now'],
};

/** Whole codes that the provider tells apart. Those of format one come without handle, session or parameter number. */
export const TPM_RC = {
  INITIALIZE: 0x100,
  FAILURE: 0x101,
  AUTH_UNAVAILABLE: 0x12f,
  NV_SPACE: 0x14b,
  NV_DEFINED: 0x14c,
  VALUE: 0x084,
  HIERARCHY: 0x085,
  HANDLE: 0x08b,
  AUTH_FAIL: 0x08e,
  POLICY_FAIL: 0x09d,
  INTEGRITY: 0x09f,
  BAD_AUTH: 0x0a2,
  BINDING: 0x0a5,
  OBJECT_MEMORY: 0x902,
  SESSION_MEMORY: 0x903,
  MEMORY: 0x904,
  SESSION_HANDLES: 0x905,
  OBJECT_HANDLES: 0x906,
  YIELDED: 0x908,
  TESTING: 0x90a,
  REFERENCE_H0: 0x910,
  REFERENCE_S6: 0x91e,
  NV_RATE: 0x920,
  LOCKOUT: 0x921,
  RETRY: 0x922,
  NV_UNAVAILABLE: 0x923,
} as const;

/** The code without the number of handle, session or parameter, and without the layer. */
export function baseCode(raw: number): number {
  const code = raw & 0xfff;
  return (code & 0x80) === 0 ? code : code & 0xbf;
}

/** @see TPM 2.0 Library, Part 2, section 6.6 "TPM_RC" */
export function decodeResponseCode(raw: number): TpmResponseCode {
  const code = raw & 0xfff;
  const [name, sentence] = textsOf(code) ?? ['', 'the specification knows no such code'];
  return {
    raw,
    name: name === '' ? 'unknown code' : `TPM_RC_${name}`,
    sentence,
    about: subjectOf(code),
    layer: layerOf(raw >>> 16),
  };
}

/** `TPM_RC_BAD_AUTH (0x9a2, session 1)` */
export function describeResponseCode({ raw, name, about, layer }: TpmResponseCode): string {
  const from = layer === 'TPM' ? '' : `, from the ${layer}`;
  return `${name} (${hex(raw, 3)}${about === undefined ? '' : `, ${about}`}${from})`;
}

function textsOf(code: number): readonly [name: string, sentence: string] | undefined {
  if ((code & 0x80) !== 0) return FORMAT_ONE[code & 0x3f];
  if ((code & 0x100) === 0) return code === 0x1e ? ['BAD_TAG', 'the tag of the command is not correct'] : undefined;
  return (code & 0x800) === 0 ? ERRORS[code & 0x7f] : (WARNINGS[code & 0x7f] ?? reference(code & 0x7f));
}

/** A handle or session that the TPM does not have loaded, by its place in the command. */
function reference(number: number): readonly [name: string, sentence: string] | undefined {
  if (number >= 0x10 && number <= 0x16) return [`REFERENCE_H${number - 0x10}`, 'a handle refers to nothing loaded'];
  if (number >= 0x18 && number <= 0x1e) return [`REFERENCE_S${number - 0x18}`, 'a session refers to nothing loaded'];
  return undefined;
}

function subjectOf(code: number): string | undefined {
  if ((code & 0x80) === 0) return undefined;
  const number = (code >>> 8) & 0xf;
  if ((code & 0x40) !== 0) return `parameter ${number}`;
  if (number === 0) return undefined;
  return number > 8 ? `session ${number - 8}` : `handle ${number}`;
}

function layerOf(layer: number): TpmResponseCode['layer'] {
  if (layer === 0) return 'TPM';
  return layer === 0x0b ? 'resource manager' : 'software';
}
