import { completeHandles, HANDLE_NAMES, isOwnerHandle, OWNER_RANGE, type TpmHandles } from '../../hsm/tpm2/handles.js';
import { tpmLinkProblem } from '../../hsm/tpm2/links/link-uri.js';
import { KEY_TEMPLATE_NAMES } from '../../hsm/tpm2/templates.js';
import { isPathLike } from '../path-like.js';
import { type OptionSpec, type SecretSpec, secretFileOption } from './option-spec.js';

/** What a device with a TPM is told: the options of `tpm2Hsm()`. */

export const TPM_SECRETS: readonly SecretSpec[] = [
  {
    name: 'tpm-owner-auth',
    help: "Password of the TPM's owner hierarchy, if it has one: to keep keys in the TPM. One line end is dropped.",
    standsFor: ['hsm.ownerAuth'],
  },
  {
    name: 'tpm-endorsement-auth',
    help: 'Password of its endorsement hierarchy, in the same way: to make and use the endorsement key.',
    standsFor: ['hsm.endorsementAuth'],
  },
];

export const TPM_OPTIONS: readonly OptionSpec[] = [
  {
    name: 'tpm',
    kind: 'text',
    placeholder: 'LINK',
    help: 'A TPM 2.0: tpm2:/dev/tpmrm0, tpm2:swtpm:host=127.0.0.1,port=2321, tpm2:mssim:...',
    problem: linkProblem,
    standsFor: ['hsm.link'],
  },
  ...TPM_SECRETS.map(secretFileOption),
  {
    name: 'tpm-template',
    kind: KEY_TEMPLATE_NAMES,
    help: "What the TPM's keys are made from where there are none; another template is another registration id. For devices enrolled with Microsoft's Node or C SDK azure-node-c, with its Java SDK azure-java. Default: tcg.",
    standsFor: ['hsm.template'],
  },
  {
    name: 'tpm-handles',
    kind: 'text',
    placeholder: 'KEY=HANDLE,...',
    help: 'Where keys are in the TPM, if elsewhere than usual. KEY is endorsementKey (0x81010001), storageRootKey (0x81000001), identity (0x81000100) or stagedIdentity (0x81000101).',
    problem: (text) => {
      const handles = parseTpmHandles(text);
      return 'problem' in handles ? handles.problem : undefined;
    },
    standsFor: ['hsm.handles'],
  },
  {
    name: 'tpm-transient-primaries',
    kind: 'switch',
    help: 'Make endorsement and storage root key whenever they are needed, instead of keeping them in the TPM. Takes up to a minute on a chip.',
    standsFor: ['hsm.transientPrimaries'],
  },
];

/** The link is in messages: it must not be a key. */
function linkProblem(text: string): string | undefined {
  if (!isPathLike(text)) {
    return 'it must be the link of a TPM, such as tpm2:/dev/tpmrm0 or tpm2:swtpm:host=127.0.0.1,port=2321.';
  }
  const problem = tpmLinkProblem(text);
  return problem === undefined ? undefined : `it ${problem}.`;
}

/** Reads `identity=0x81000200,stagedIdentity=0x81000201`, or says what is wrong with it without repeating it. */
export function parseTpmHandles(
  text: string,
): { readonly handles: Partial<TpmHandles> } | { readonly problem: string } {
  const handles = new Map<string, number>();
  for (const part of text.split(',')) {
    const [, name = '', handle] = /^(\w+)=(0x[0-9a-f]+|\d+)$/i.exec(part) ?? [];
    if (!HANDLE_NAMES.includes(name)) return { problem: NO_HANDLES };
    if (handles.has(name)) return { problem: `it has ${name} twice.` };
    if (!isOwnerHandle(Number(handle))) return { problem: `${name} must be ${OWNER_RANGE}.` };
    handles.set(name, Number(handle));
  }
  const given: Partial<TpmHandles> = Object.fromEntries(handles);
  if (completeHandles(given) !== undefined) return { handles: given };
  return { problem: 'it names one handle twice, or one that is the default of another key; give four different ones.' };
}

const NO_HANDLES = `it must be KEY=HANDLE, several with commas in between, such as identity=0x81000200; KEY is one of ${HANDLE_NAMES.join(', ')}.`;
