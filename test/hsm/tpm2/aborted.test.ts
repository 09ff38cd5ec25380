import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { tpm2Hsm } from '../../../hsm/tpm2.js';
import { systemClock } from '../../../src/system-clock.js';
import { abortRuns } from './aborted-runs.js';
import { startRawPeer } from './tpm-peer.js';

/** `npm run soak` does a thousand of them. */
const RUNS = 60;

describe('a device whose work is aborted', () => {
  it('leaves nothing in the TPM, and keeps an identity that signs', async () => {
    const { commands, old, renewed } = await abortRuns(RUNS);
    expect(commands).toBeLessThan(RUNS);
    expect(old).toBeGreaterThan(0);
    expect(renewed).toBeGreaterThan(0);
  });

  it('is told at once, also while the TPM says nothing', async () => {
    const asked: (() => void)[] = [];
    const peer = await startRawPeer(() => {
      for (const tell of asked.splice(0)) tell();
      return 'silence';
    });
    const hsm = await tpm2Hsm({ link: peer.link(systemClock), commandTimeoutMs: 50 });
    const controller = new AbortController();
    const isAsked = new Promise<void>((resolve) => asked.push(resolve));
    const first = hsm.registrationId(controller.signal);
    const second = hsm.registrationId(controller.signal);
    await isAsked;
    controller.abort(new Error('enough'));
    await expect(first).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED', cause: { message: 'enough' } });
    await expect(second).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
    await hsm.close();
    expect(await peer.openEnds()).toBe(0);
    expect(peer.commands).toHaveLength(1);
    await peer.close();
  });
});
