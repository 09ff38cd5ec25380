import { randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import { parseTpmLink } from '../../../hsm/tpm2/links/link-uri.js';
import { openTpmLink } from '../../../hsm/tpm2/links/open-link.js';
import { type Tpm2Hsm, type TpmLink, tpm2Hsm } from '../../../hsm/tpm2.js';
import { isDpsError } from '../../../src/errors.js';
import { systemClock } from '../../../src/system-clock.js';
import { HANDLES, signal, signatureOf, softwareHmac, TpmBench } from './tpm-bench.js';

/** How the runs ended: at which commands they were aborted, and which identity was left. */
export interface AbortedRuns {
  readonly commands: number;
  readonly old: number;
  readonly renewed: number;
}

/**
 * Provisions a device again and again, and aborts every run at another of its commands, before it is sent or while the
 * TPM is at it. After each nothing may be left in the TPM, and the old identity or the new one must sign.
 */
export async function abortRuns(count: number): Promise<AbortedRuns> {
  const bench = await TpmBench.start();
  const line = await AbortingLink.to(bench.swtpm.uri);
  const hsm = await tpm2Hsm({ link: line });
  try {
    let current = await bench.provision(hsm);
    const commands = line.commands;
    const ends = { old: 0, renewed: 0 };
    for (let run = 0; run < count; run += 1) {
      const next = randomBytes(32);
      const blobs = [await bench.sealed(hsm, randomBytes(32)), await bench.sealed(hsm, next)] as const;
      await abortedRun(hsm, line, blobs, run % (commands + 1), run % 2 === 0);
      await hsm.discard(signal);
      expect(await bench.probe.leaks()).toEqual([]);
      // A commit that has begun is carried through.
      expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
      const signature = await signatureOf(hsm);
      expect([softwareHmac(current), softwareHmac(next)]).toContain(signature);
      const isOld = signature === softwareHmac(current);
      ends[isOld ? 'old' : 'renewed'] += 1;
      if (!isOld) current = next;
    }
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
    return { commands, ...ends };
  } finally {
    await hsm.close();
    await bench.stop();
  }
}

async function abortedRun(
  hsm: Tpm2Hsm,
  line: AbortingLink,
  [challenge, hubKey]: readonly [Uint8Array, Uint8Array],
  atCommand: number,
  isBefore: boolean,
): Promise<void> {
  const controller = new AbortController();
  line.abortAt(atCommand, isBefore, controller);
  try {
    await hsm.endorsement(controller.signal);
    await hsm.activate(challenge, controller.signal);
    await hsm.sign(randomBytes(1500), 0, controller.signal);
    await hsm.stage(hubKey, controller.signal);
    await hsm.commit(controller.signal);
  } catch (error) {
    expect(isDpsError(error) ? error.code : error).toBe('ERR_DPS_CANCELLED');
  } finally {
    line.abortAt(0, false, undefined);
  }
}

class AbortingLink implements TpmLink {
  readonly place: string;
  commands = 0;
  readonly #inner: TpmLink;
  #left = 0;
  #isBefore = false;
  #controller: AbortController | undefined;

  private constructor(inner: TpmLink) {
    this.#inner = inner;
    this.place = inner.place;
  }

  static async to(uri: string): Promise<AbortingLink> {
    return new AbortingLink(await openTpmLink(parseTpmLink(uri), systemClock));
  }

  abortAt(command: number, isBefore: boolean, controller: AbortController | undefined): void {
    this.#left = command;
    this.#isBefore = isBefore;
    this.#controller = controller;
    if (command === 0) controller?.abort();
  }

  async transceive(command: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    this.commands += 1;
    this.#left -= 1;
    const isNow = this.#left === 0;
    if (isNow && this.#isBefore) this.#controller?.abort();
    const response = await this.#inner.transceive(command, timeoutMs);
    if (isNow && !this.#isBefore) this.#controller?.abort();
    return response;
  }

  rest(): void {
    this.#inner.rest();
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
