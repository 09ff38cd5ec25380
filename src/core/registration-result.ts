import { ProtocolError } from '../errors.js';
import { deviceIdProblem, hostNameProblem } from './identifiers.js';
import { describeMember, memberOf, objectMember, textMember } from './json-body.js';
import type { JsonObject, JsonValue } from './twin.js';

/** DeviceRegistrationResult, in the service's spelling. Unknown members are kept in `raw`. */
export interface RegistrationResult {
  /** Empty where the service did not repeat it. */
  readonly registrationId: string;
  readonly assignedHub: string;
  readonly deviceId: string;
  readonly status: 'assigned';
  readonly substatus?: string;
  readonly createdDateTimeUtc?: string;
  readonly lastUpdatedDateTimeUtc?: string;
  readonly etag?: string;
  /** What a custom allocation webhook returned. */
  readonly payload?: JsonValue;
  readonly x509?: JsonObject;
  readonly symmetricKey?: JsonObject;
  /** Base64 key blob for the TPM; sealed to it, yet never printed: not enumerable, so neither JSON, `util.inspect` nor a spread has it. */
  readonly tpm?: { readonly authenticationKey: string };
  /** Base64 DER, leaf first. */
  readonly issuedCertificateChain?: readonly string[];
  /** Absent or `classic`: an MQTT 3.1.1 hub. */
  readonly connectionProfile?: string;
  /** The registration state as it came, every member of it. Not enumerable, and within it `tpm` is not either. */
  readonly raw: JsonObject;
}

/**
 * Reads the state of an assigned registration, fresh or stored (then from an earlier `raw`). Optional members of the
 * wrong type are left out; `raw` has them.
 *
 * @throws ProtocolError `ERR_DPS_PROTOCOL_BODY` without a usable `assignedHub` and `deviceId`.
 */
export function registrationResultOf(state: JsonObject): RegistrationResult {
  const result = readAssignedState(state);
  if (result instanceof ProtocolError) throw result;
  return result;
}

/** The same, with the error as a value. `httpStatus` is the one of the reply that the state came in. */
export function readAssignedState(state: JsonObject, httpStatus?: number): RegistrationResult | ProtocolError {
  const hubProblem = problemWith(state, 'assignedHub', hostNameProblem);
  if (hubProblem !== undefined) return memberError('assignedHub', hubProblem, httpStatus);
  const idProblem = problemWith(state, 'deviceId', deviceIdProblem);
  if (idProblem !== undefined) return memberError('deviceId', idProblem, httpStatus);
  const shown = {
    registrationId: textMember(state, 'registrationId') ?? '',
    assignedHub: textMember(state, 'assignedHub') ?? '',
    deviceId: textMember(state, 'deviceId') ?? '',
    status: 'assigned' as const,
    ...optionalMembers(state),
  };
  return withHiddenMembers(shown, state);
}

/** A member that DPS always sends is missing or unusable. `problem` is a sentence without the value: it may be a secret. */
export function memberError(name: string, problem: string, httpStatus: number | undefined): ProtocolError {
  return new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_BODY',
    message: `The reply of DPS has no usable member ${name}. ${problem} Try again; if it stays, report it with this message.`,
    expected: `a usable member ${name}`,
    got: problem,
    status: httpStatus,
  });
}

function problemWith(state: JsonObject, name: string, check: (text: string) => string | undefined): string | undefined {
  const text = textMember(state, name);
  return text === undefined ? `Expected text, found ${describeMember(state, name)}.` : check(text);
}

type OptionalMembers = Pick<
  RegistrationResult,
  | 'substatus'
  | 'createdDateTimeUtc'
  | 'lastUpdatedDateTimeUtc'
  | 'etag'
  | 'payload'
  | 'x509'
  | 'symmetricKey'
  | 'issuedCertificateChain'
  | 'connectionProfile'
>;

function optionalMembers(state: JsonObject): OptionalMembers {
  const payload = memberOf(state, 'payload');
  const chain = memberOf(state, 'issuedCertificateChain');
  return {
    ...textIfThere(state, 'substatus'),
    ...textIfThere(state, 'createdDateTimeUtc'),
    ...textIfThere(state, 'lastUpdatedDateTimeUtc'),
    ...textIfThere(state, 'etag'),
    ...(payload === undefined ? {} : { payload }),
    ...objectIfThere(state, 'x509'),
    ...objectIfThere(state, 'symmetricKey'),
    ...(isTextArray(chain) ? { issuedCertificateChain: chain } : {}),
    ...textIfThere(state, 'connectionProfile'),
  };
}

function textIfThere<Name extends string>(state: JsonObject, name: Name): { readonly [N in Name]?: string } {
  const value = textMember(state, name);
  return value === undefined ? {} : ({ [name]: value } as { [N in Name]: string });
}

function objectIfThere<Name extends string>(state: JsonObject, name: Name): { readonly [N in Name]?: JsonObject } {
  const value = objectMember(state, name);
  return value === undefined ? {} : ({ [name]: value } as { [N in Name]: JsonObject });
}

function isTextArray(value: JsonValue | undefined): value is readonly string[] {
  return Array.isArray(value) && value.every((element) => typeof element === 'string');
}

/**
 * The key blob is where it belongs, but whatever prints, serializes or copies the result passes it by. Getters, because
 * `util.inspect` with `showHidden` shows hidden values; those it does not call.
 */
function withHiddenMembers(shown: Omit<RegistrationResult, 'raw' | 'tpm'>, state: JsonObject): RegistrationResult {
  const raw = { ...state };
  const { tpm } = raw;
  if (Object.hasOwn(raw, 'tpm')) Object.defineProperty(raw, 'tpm', { get: () => tpm, enumerable: false });
  const authenticationKey = textMember(objectMember(state, 'tpm') ?? {}, 'authenticationKey');
  const result = Object.defineProperty(shown, 'raw', { value: raw, enumerable: false });
  return authenticationKey === undefined
    ? (result as RegistrationResult)
    : (Object.defineProperty(result, 'tpm', {
        get: () => ({ authenticationKey }),
        enumerable: false,
      }) as RegistrationResult);
}
