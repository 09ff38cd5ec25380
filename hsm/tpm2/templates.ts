import { concatBytes } from '../../src/core/bytes.js';
import { ENDORSEMENT, OWNER, type TpmEntity } from './commands.js';
import { EMPTY_TPM2B, sha256, TPM_ALG, tpm2b, u16, u32 } from './structures.js';

/**
 * What EK and SRK are made from. A primary key follows from the hierarchy's seed and the WHOLE template, so one TPM has
 * as many EKs, and registration ids, as there are templates in use.
 *
 * - `tcg`: the TCG's default, `unique` of 256 zero bytes. The EK of the maker's certificate, of the C# SDK, of
 *   `tpm2_createek` and `swtpm_setup`.
 * - `azure-node-c`: Microsoft's Node and C SDKs, `unique` empty.
 * - `azure-java`: Microsoft's Java SDK, `unique` empty and the EK in the owner hierarchy: another one after TPM2_Clear.
 */
export type KeyTemplateName = 'tcg' | 'azure-node-c' | 'azure-java';

export const KEY_TEMPLATE_NAMES: readonly KeyTemplateName[] = ['tcg', 'azure-node-c', 'azure-java'];

export interface KeyTemplate {
  readonly hierarchy: TpmEntity;
  /** `TPMT_PUBLIC` */
  readonly publicArea: Uint8Array;
}

/** PolicySecret of the endorsement hierarchy, as a digest. */
export const EK_POLICY: Uint8Array = sha256(sha256(new Uint8Array(32), u32(0x0000_0151), u32(ENDORSEMENT.handle)));

export function ekTemplate(name: KeyTemplateName): KeyTemplate {
  const publicArea = storageKeyTemplate(0x0003_00b2, EK_POLICY, uniqueOf(name));
  return { hierarchy: name === 'azure-java' ? OWNER : ENDORSEMENT, publicArea };
}

export function srkTemplate(name: KeyTemplateName): KeyTemplate {
  return { hierarchy: OWNER, publicArea: storageKeyTemplate(0x0003_0472, new Uint8Array(), uniqueOf(name)) };
}

function uniqueOf(name: KeyTemplateName): Uint8Array {
  return new Uint8Array(name === 'tcg' ? 256 : 0);
}

/** RSA 2048 with AES-128-CFB for what it protects, exponent 65537 (written as 0). */
function storageKeyTemplate(attributes: number, policy: Uint8Array, unique: Uint8Array): Uint8Array {
  return concatBytes(
    u16(TPM_ALG.RSA),
    u16(TPM_ALG.SHA256),
    u32(attributes),
    policy.length === 0 ? EMPTY_TPM2B : tpm2b(policy),
    u16(TPM_ALG.AES),
    u16(128),
    u16(TPM_ALG.CFB),
    u16(TPM_ALG.NULL),
    u16(2048),
    u32(0),
    tpm2b(unique),
  );
}
