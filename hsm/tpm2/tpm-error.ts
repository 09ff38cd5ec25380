import { type DpsErrorCode, HsmError } from '../../src/errors.js';
import { baseCode, decodeResponseCode, describeResponseCode, TPM_RC, type TpmResponseCode } from './response-codes.js';

/** A command that the TPM refused. Inside the provider only: what leaves it is an `HsmError`. */
export class TpmCommandError extends Error {
  override readonly name: string = 'TpmCommandError';
  readonly command: string;
  readonly response: TpmResponseCode;
  /** The code without the number of handle, session or parameter: compare it with `TPM_RC`. */
  readonly code: number;

  constructor(command: string, raw: number) {
    const response = decodeResponseCode(raw);
    super(`${command}: ${describeResponseCode(response)}, ${response.sentence}`);
    this.command = command;
    this.response = response;
    this.code = baseCode(raw);
  }
}

/** Whether the TPM refused a command with one of these codes. */
export function isRefusal(error: unknown, ...codes: readonly number[]): error is TpmCommandError {
  return error instanceof TpmCommandError && codes.includes(error.code);
}

/**
 * Whether a handle that the TPM gave out in the same piece of work means nothing to it any more, or another session: it
 * was reset since.
 */
export function wasReset(error: unknown): boolean {
  if (!(error instanceof TpmCommandError)) return false;
  if (error.code >= TPM_RC.REFERENCE_H0 && error.code <= TPM_RC.REFERENCE_S6) return true;
  return STALE_SESSION.includes(error.code) && error.response.about?.startsWith('session') === true;
}

const STALE_SESSION: readonly number[] = [TPM_RC.HANDLE, TPM_RC.POLICY_FAIL];

/** A failure of the provider's own finding. */
export function tpmError(code: DpsErrorCode, operation: string, message: string, cause?: unknown): HsmError {
  return new HsmError({ code, operation, message, ...(cause === undefined ? {} : { cause }) });
}

interface Explanation {
  readonly code: DpsErrorCode;
  readonly advice: string;
  readonly retryable?: boolean;
}

/** What a refused command means for who runs the device. `place` is where the TPM is. */
export function explainRefusal(error: TpmCommandError, operation: string, place: string): HsmError {
  const { code, advice, retryable = false } = explanationOf(error);
  const what = `${describeResponseCode(error.response)}: ${error.response.sentence}`;
  return new HsmError({
    code,
    operation,
    message: `The TPM at ${place} refused ${error.command} with ${what}. ${advice}`,
    retryable,
    cause: error,
  });
}

function explanationOf(error: TpmCommandError): Explanation {
  const isReset: boolean = wasReset(error);
  if (isReset) return RESET;
  return byCommand(error) ?? BY_CODE.get(error.code) ?? OTHERWISE;
}

/** Codes whose meaning depends on the command. */
function byCommand({ command, code }: TpmCommandError): Explanation | undefined {
  if (command === 'ActivateCredential' && NOT_FOR_THIS_TPM.includes(code)) return FOREIGN_BLOB;
  if ((command === 'Import' || command === 'Load') && BROKEN_WRAPPING.includes(code)) return BROKEN_BLOB;
  if (command === 'Import' && code < 0x100) return ODD_KEY;
  if (command === 'PolicySecret' && AUTH.includes(code)) return WRONG_ENDORSEMENT_AUTH;
  if (AUTH.includes(code)) return WRONG_OWNER_AUTH;
  return undefined;
}

const AUTH: readonly number[] = [TPM_RC.BAD_AUTH, TPM_RC.AUTH_FAIL];
/** Three implementations, three codes for a secret that was encrypted to another key; INTEGRITY is another SRK. */
const NOT_FOR_THIS_TPM: readonly number[] = [TPM_RC.VALUE, TPM_RC.FAILURE, TPM_RC.BINDING, TPM_RC.INTEGRITY];
const BROKEN_WRAPPING: readonly number[] = [TPM_RC.INTEGRITY, TPM_RC.VALUE, TPM_RC.FAILURE];

const FOREIGN_BLOB: Explanation = {
  code: 'ERR_DPS_HSM_TPM_BLOB',
  advice:
    'The key from the service was not sealed to the EK and SRK of this TPM. After TPM2_Clear, register again; if it stays so, the endorsement key in the enrollment is that of another TPM.',
};
const BROKEN_BLOB: Explanation = {
  code: 'ERR_DPS_HSM_TPM_BLOB',
  advice:
    'The key from the service is damaged, or was wrapped for another SRK, as after a TPM2_Clear. Register again; if it stays so, the service, or something on the way to it, sends what no TPM can take.',
};
const ODD_KEY: Explanation = {
  code: 'ERR_DPS_HSM_TPM_BLOB',
  advice:
    'The service sent a key of a kind that this TPM does not take (it must be an HMAC-SHA256 key of at most 64 bytes). Report it to whoever runs the service.',
};
const WRONG_OWNER_AUTH: Explanation = {
  code: 'ERR_DPS_HSM_TPM_AUTH',
  advice:
    'A password is missing or wrong. Give that of the owner hierarchy as option hsm.ownerAuth and that of the endorsement hierarchy as option hsm.endorsementAuth, and none where there is none: TPM2_Clear removes both. A wrong one is not counted by the lockout.',
};
const WRONG_ENDORSEMENT_AUTH: Explanation = {
  code: 'ERR_DPS_HSM_TPM_AUTH',
  advice:
    'The password of the endorsement hierarchy is missing or wrong. Give it as option hsm.endorsementAuth, and none where there is none: TPM2_Clear removes it. A wrong one is not counted by the lockout.',
};

const RESET: Explanation = {
  code: 'ERR_DPS_HSM_TPM_CONNECTION_LOST',
  advice: 'The TPM was reset in the middle of the work, again and again. Look for what resets it.',
  retryable: true,
};
const NO_ROOM: Explanation = {
  code: 'ERR_DPS_HSM_TPM_FULL',
  advice:
    'Other programs have filled its slots for objects or sessions. Use /dev/tpmrm0, which shares them out, or free them: tpm2_flushcontext -t -l -s, or restart the TPM.',
  retryable: true,
};
const BUSY: Explanation = {
  code: 'ERR_DPS_HSM_TPM_BUSY',
  advice: 'It stayed busy although the command was repeated. Try again later.',
  retryable: true,
};

const BY_CODE: ReadonlyMap<number, Explanation> = new Map<number, Explanation>([
  [
    TPM_RC.INITIALIZE,
    {
      code: 'ERR_DPS_HSM_TPM_NOT_STARTED',
      advice: 'It was not started, and TPM2_Startup did not help. Power it off and on, or restart the simulator.',
    },
  ],
  [
    TPM_RC.FAILURE,
    {
      code: 'ERR_DPS_HSM_TPM_FAILURE',
      advice: 'It may be in failure mode: tpm2_gettestresult tells. Power it off and on.',
    },
  ],
  [
    TPM_RC.LOCKOUT,
    {
      code: 'ERR_DPS_HSM_TPM_LOCKOUT',
      advice:
        'Too many wrong passwords were tried. Wait for the recovery time (tpm2_getcap properties-variable shows it), or let the owner of the TPM run tpm2_dictionarylockout --clear-lockout.',
    },
  ],
  [
    TPM_RC.HIERARCHY,
    {
      code: 'ERR_DPS_HSM_TPM_HIERARCHY',
      advice:
        'Its owner or endorsement hierarchy is disabled. Enable it in the firmware’s settings, or start the TPM anew.',
    },
  ],
  [
    TPM_RC.AUTH_UNAVAILABLE,
    {
      code: 'ERR_DPS_HSM_TPM_BLOB',
      advice: 'The key cannot be used with a password, as every key from the service can. Provision the device again.',
    },
  ],
  [
    TPM_RC.NV_SPACE,
    {
      code: 'ERR_DPS_HSM_TPM_FULL',
      advice:
        'Remove persistent objects that nobody needs: tpm2_getcap handles-persistent lists them, tpm2_evictcontrol -C o -c HANDLE removes one.',
    },
  ],
  [
    TPM_RC.NV_DEFINED,
    {
      code: 'ERR_DPS_HSM_TPM_HANDLE',
      advice:
        'Another program has put something there in this very moment. Let one program at a time provision the device.',
      retryable: true,
    },
  ],
  [TPM_RC.OBJECT_MEMORY, NO_ROOM],
  [TPM_RC.SESSION_MEMORY, NO_ROOM],
  [TPM_RC.MEMORY, NO_ROOM],
  [TPM_RC.SESSION_HANDLES, NO_ROOM],
  [TPM_RC.OBJECT_HANDLES, NO_ROOM],
  [TPM_RC.RETRY, BUSY],
  [TPM_RC.YIELDED, BUSY],
  [TPM_RC.TESTING, BUSY],
  [TPM_RC.NV_RATE, BUSY],
  [TPM_RC.NV_UNAVAILABLE, BUSY],
]);

const OTHERWISE: Explanation = {
  code: 'ERR_DPS_HSM_TPM_FAILURE',
  advice: 'This is not expected: report it with the versions of TPM and package.',
};
