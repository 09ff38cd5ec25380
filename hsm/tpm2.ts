export type { TpmHandles } from './tpm2/handles.js';
export type { TpmLink } from './tpm2/links/link.js';
export type { KeyTemplateName } from './tpm2/templates.js';
export { type Tpm2Hsm, type TpmIdentity, tpm2Hsm } from './tpm2/tpm2-hsm.js';
export type { Tpm2HsmOptions } from './tpm2/tpm2-options.js';
