import { createHmac, randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import { parseTpmLink } from '../../../hsm/tpm2/links/link-uri.js';
import { openTpmLink } from '../../../hsm/tpm2/links/open-link.js';
import { type Tpm2Hsm, type Tpm2HsmOptions, type TpmLink, tpm2Hsm } from '../../../hsm/tpm2.js';
import { HsmError } from '../../../src/errors.js';
import { systemClock } from '../../../src/system-clock.js';
import { type SealedKeyParts, sealKey } from './sealed-key.js';
import { Swtpm } from './swtpm-process.js';
import { TpmProbe } from './tpm-probe.js';

export const { signal } = new AbortController();

export const HANDLES = { ek: 0x8101_0001, srk: 0x8100_0001, identity: 0x8100_0100, staged: 0x8100_0101 } as const;

/** A new TPM, a device on it, and the service's part played here. */
export class TpmBench {
  readonly swtpm: Swtpm;
  readonly probe: TpmProbe;
  readonly #open: Tpm2Hsm[] = [];

  constructor(swtpm: Swtpm) {
    this.swtpm = swtpm;
    this.probe = new TpmProbe(swtpm);
  }

  static async start(options?: Parameters<typeof Swtpm.start>[0]): Promise<TpmBench> {
    return new TpmBench(await Swtpm.start(options));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#open.map((hsm) => hsm.close()));
    await this.swtpm.stop();
  }

  /** Another process of the device, as it were. */
  async device(options: Tpm2HsmOptions = {}): Promise<Tpm2Hsm> {
    const hsm = await tpm2Hsm({ link: this.swtpm.uri, ...options });
    this.#open.push(hsm);
    return hsm;
  }

  /** A link with somebody in between, who may `pass` the command on. */
  async tapped(between: (command: Buffer, pass: () => Promise<Buffer>) => Promise<Uint8Array>): Promise<TpmLink> {
    const inner = await openTpmLink(parseTpmLink(this.swtpm.uri), systemClock);
    return {
      place: inner.place,
      transceive: (command, timeoutMs) =>
        between(Buffer.from(command), async () => Buffer.from(await inner.transceive(command, timeoutMs))),
      rest: () => inner.rest(),
      close: () => inner.close(),
    };
  }

  /** A device with a hub key in use. */
  async provisioned(options?: Tpm2HsmOptions): Promise<{ hsm: Tpm2Hsm; key: Buffer }> {
    const hsm = await this.device(options);
    const key = await this.provision(hsm);
    return { hsm, key };
  }

  /** From the challenge to the commit; gives the hub key. */
  async provision(hsm: Tpm2Hsm): Promise<Buffer> {
    const nonceKey = randomBytes(32);
    const hubKey = randomBytes(32);
    await hsm.activate(await this.sealed(hsm, nonceKey), signal);
    await expectSignsWith(hsm, nonceKey);
    await hsm.stage(await this.sealed(hsm, hubKey), signal);
    await expectSignsWith(hsm, hubKey);
    await hsm.commit(signal);
    return hubKey;
  }

  async sealed(hsm: Tpm2Hsm, key: Buffer, parts?: SealedKeyParts): Promise<Uint8Array> {
    const { endorsementKey, storageRootKey } = await hsm.endorsement(signal);
    return sealKey(endorsementKey, storageRootKey, key, parts).blob;
  }
}

const TEXT = Buffer.from('hub.example%2Fdevices%2Fdev-1\n1735689600');

export function softwareHmac(key: Buffer, data: Uint8Array = TEXT): string {
  return createHmac('sha256', key).update(data).digest('hex');
}

export async function signatureOf(hsm: Tpm2Hsm, data: Uint8Array = TEXT): Promise<string> {
  return Buffer.from(await hsm.sign(data, 0, signal)).toString('hex');
}

export async function expectSignsWith(hsm: Tpm2Hsm, key: Buffer, data: Uint8Array = TEXT): Promise<void> {
  expect(await signatureOf(hsm, data)).toBe(softwareHmac(key, data));
}

export async function failureOf(promise: Promise<unknown>): Promise<HsmError> {
  const reason: unknown = await promise.then(
    () => new Error('It succeeded.'),
    (error: unknown) => error,
  );
  if (reason instanceof HsmError) return reason;
  throw reason;
}
