import { hex } from './structures.js';

/** Where keys live in the TPM: persistent handles 0x81000000 to 0x817fffff, which belong to its owner. */
export interface TpmHandles {
  /** Default 0x81010001. */
  readonly endorsementKey: number;
  /** Default 0x81000001. */
  readonly storageRootKey: number;
  /** Of the hub key in use. Default 0x81000100. */
  readonly identity: number;
  /** Of a hub key that the hub has not accepted yet. Default 0x81000101. */
  readonly stagedIdentity: number;
}

export const DEFAULT_HANDLES: TpmHandles = {
  endorsementKey: 0x8101_0001,
  storageRootKey: 0x8100_0001,
  identity: 0x8100_0100,
  stagedIdentity: 0x8100_0101,
};

export const HANDLE_NAMES: readonly string[] = Object.keys(DEFAULT_HANDLES);

const FIRST_OWNER_HANDLE = 0x8100_0000;
const LAST_OWNER_HANDLE = 0x817f_ffff;

/** Of the persistent handles that belong to the TPM's owner, for messages. */
export const OWNER_RANGE: string = `from ${hex(FIRST_OWNER_HANDLE)} to ${hex(LAST_OWNER_HANDLE)}, where the owner's persistent keys are`;

export function isOwnerHandle(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= FIRST_OWNER_HANDLE && Number(value) <= LAST_OWNER_HANDLE;
}

/** With the defaults of what is not given; `undefined` when one handle would be of two keys. */
export function completeHandles(given: Partial<TpmHandles>): TpmHandles | undefined {
  const all: TpmHandles = { ...DEFAULT_HANDLES, ...given };
  return new Set(Object.values(all)).size === HANDLE_NAMES.length ? all : undefined;
}
