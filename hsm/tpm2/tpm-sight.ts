import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { getProperty } from './commands.js';
import { PrimaryKeys } from './primary-keys.js';
import { tpm2b, u32 } from './structures.js';
import { Tpm } from './tpm.js';
import { explain, registrationIdOf } from './tpm2-hsm.js';
import { readTpm2Options, type Tpm2HsmOptions } from './tpm2-options.js';

/** What anybody can see of a TPM. */
export interface TpmSight {
  /** Where it is, for messages. */
  readonly place: string;
  /** As its maker writes itself: `IBM`, `STM`. */
  readonly manufacturer: string | undefined;
  /** Which of the two keys are kept in it already. With `transientPrimaries` none is looked for. */
  readonly hasEndorsementKey: boolean;
  readonly hasStorageRootKey: boolean;
  /** As given, or of the endorsement key that is there. */
  readonly registrationId: string | undefined;
}

const PT_MANUFACTURER = 0x105;

/**
 * Looks at a TPM without changing anything in it: no password is used, no key made, no handle taken.
 *
 * @throws as `tpm2Hsm` and its methods do.
 */
export async function lookAtTpm(options: Tpm2HsmOptions, signal: CancelSignal): Promise<TpmSight> {
  const { ownerAuth: _owner, endorsementAuth: _endorsement, ...open } = options;
  const settings = await readTpm2Options(open, signal);
  const { link, clock, commandTimeoutMs, template, handles, transientPrimaries: isTransient } = settings;
  const { place } = link;
  const tpm = new Tpm({ link, clock, commandTimeoutMs, creationTimeoutMs: commandTimeoutMs });
  const none = new Uint8Array();
  const keys = new PrimaryKeys({ template, handles, isTransient, ownerAuth: none, endorsementAuth: none });
  try {
    return await tpm.run(signal, 'looking at the TPM', async (turn) => {
      const manufacturer = await turn.execute(getProperty(PT_MANUFACTURER));
      const { endorsementKey, storageRootKey } = isTransient ? {} : await keys.kept(turn);
      return {
        place,
        manufacturer: manufacturer === undefined ? undefined : nameIn(manufacturer),
        hasEndorsementKey: endorsementKey !== undefined,
        hasStorageRootKey: storageRootKey !== undefined,
        registrationId:
          settings.registrationId ?? (endorsementKey && registrationIdOf(tpm2b(endorsementKey.publicArea))),
      };
    });
  } catch (error) {
    throw explain(error, 'look at TPM', place);
  } finally {
    await tpm.close();
  }
}

/** Four characters, some of which may be blank. */
function nameIn(property: number): string {
  return String.fromCharCode(...u32(property))
    .replace(/[^!-~]+/g, ' ')
    .trim();
}
