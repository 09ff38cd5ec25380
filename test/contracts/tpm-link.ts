import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TpmLink } from '../../hsm/tpm2/links/link.js';
import { HsmError } from '../../src/errors.js';
import { systemClock } from '../../src/system-clock.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { Swtpm } from '../hsm/tpm2/swtpm-process.js';
import type { Answer, TpmPeer } from '../hsm/tpm2/tpm-peer.js';

/** A minute: never reached by what works. */
const PLENTY_MS = 60_000;
const NAP_MS = 1_000;

const GET_MANUFACTURER = Buffer.from('80010000001600 00017a000000060000010500000001'.replace(/ /g, ''), 'hex');
const NO_SUCH_COMMAND = Buffer.from('80010000000a00000fff', 'hex');
const ANSWER = Buffer.from('80010000001b00000000010000000600000001000001054942 4d00'.replace(/ /g, ''), 'hex');

/** TPM2_Hash of 1024 bytes, the most that a TPM takes in at once. */
function hashCommand(data: Buffer): Buffer {
  const head = Buffer.from('8001000000000000017d0400', 'hex');
  head.writeUInt32BE(10 + 2 + data.length + 2 + 4, 2);
  return Buffer.concat([head, data, Buffer.from('000b40000007', 'hex')]);
}

/** What every way to a TPM owes to the layer above it. Run it on each, with its peer played here. */
export function describeTpmLinkContract(name: string, startPeer: () => Promise<TpmPeer>): void {
  describe(`${name} fulfils the TPM link contract`, () => {
    let peer: TpmPeer;
    let swtpm: Swtpm;
    const answerBy = (answer: Answer): void => {
      peer.answering = () => answer;
    };
    const throughSwtpm = async (command: Uint8Array): Promise<Answer> => {
      const { SwtpmLink } = await import('../../hsm/tpm2/links/swtpm.js');
      const link = new SwtpmLink({ path: swtpm.socketPath }, systemClock);
      return { response: await link.transceive(command, PLENTY_MS) };
    };
    beforeAll(async () => {
      swtpm = await Swtpm.start();
      peer = await startPeer();
    });
    afterAll(async () => {
      await peer.close();
      await swtpm.stop();
    });

    async function withLink<T>(work: (link: TpmLink, clock: ManualClock) => Promise<T>): Promise<T> {
      const clock = new ManualClock();
      const link = peer.link(clock);
      try {
        return await work(link, clock);
      } finally {
        await link.close();
        expect(clock.pending).toBe(0);
        expect(await peer.openEnds()).toBe(0);
      }
    }

    async function failureOf(answer: Answer): Promise<HsmError> {
      answerBy(answer);
      return withLink(async (link) => {
        const error = await reasonOf(link.transceive(GET_MANUFACTURER, PLENTY_MS));
        // Whatever happened, the link is as good as new.
        answerBy({ response: ANSWER });
        expect(hexOf(await link.transceive(GET_MANUFACTURER, PLENTY_MS))).toBe(hexOf(ANSWER));
        return error;
      });
    }

    it('takes commands to a real TPM and brings its responses, resting or not in between', async () => {
      peer.answering = throughSwtpm;
      await withLink(async (link) => {
        for (let round = 0; round < 4; round += 1) {
          const response = await link.transceive(GET_MANUFACTURER, PLENTY_MS);
          expect(hexOf(response)).toBe(hexOf(ANSWER));
          expect(Object.getPrototypeOf(response)).toBe(Uint8Array.prototype);
          if (round % 2 === 1) link.rest();
        }
        expect(peer.commands.map(hexOf)).toContain(hexOf(GET_MANUFACTURER));
      });
    });

    it('takes the largest input of a TPM', async () => {
      peer.answering = throughSwtpm;
      const data = randomBytes(1024);
      const response = await withLink((link) => link.transceive(hashCommand(data), PLENTY_MS));
      expect(hexOf(response.subarray(12, 44))).toBe(createHash('sha256').update(data).digest('hex'));
    });

    it('brings the refusals of the TPM as they are', async () => {
      peer.answering = throughSwtpm;
      const response = await withLink((link) => link.transceive(NO_SUCH_COMMAND, PLENTY_MS));
      expect(hexOf(response)).toBe('80010000000a00000143');
    });

    it('brings the largest response there is', async () => {
      const response = Buffer.concat([Buffer.from('80010000100000000000', 'hex'), randomBytes(4086)]);
      answerBy({ response });
      expect(hexOf(await withLink((link) => link.transceive(GET_MANUFACTURER, PLENTY_MS)))).toBe(hexOf(response));
    });

    it('waits for a response that comes byte by byte', async () => {
      answerBy({ response: ANSWER, pieces: 1 });
      expect(hexOf(await withLink((link) => link.transceive(GET_MANUFACTURER, PLENTY_MS)))).toBe(hexOf(ANSWER));
    });

    it('refuses a response that was cut, wherever', async () => {
      for (let cutAfter = 0; cutAfter < peer.framedLength(ANSWER.length); cutAfter += 1) {
        const error = await failureOf({ response: ANSWER, cutAfter });
        expect(['ERR_DPS_HSM_TPM_RESPONSE', 'ERR_DPS_HSM_TPM_CONNECTION_LOST']).toContain(error.code);
      }
    });

    it.each([
      ['a size that is too small', '80010000000900000000'],
      ['a size that is too large', '80010000100100000000'],
      ['a size beyond reason', '8001ffffffff00000000'],
      ['something else altogether', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n').toString('hex')],
      ['zeros', '00'.repeat(64)],
    ])('refuses %s', async (_, response) => {
      const error = await failureOf({ response: Buffer.from(response, 'hex') });
      expect(['ERR_DPS_HSM_TPM_RESPONSE', 'ERR_DPS_HSM_TPM_CONNECTION_LOST']).toContain(error.code);
    });

    it('says so when the other side goes away in the middle of a command', async () => {
      const error = await failureOf('hang up');
      expect(error.code).toBe('ERR_DPS_HSM_TPM_CONNECTION_LOST');
      expect(error.retryable).toBe(true);
    });

    it('does not wait for ever', async () => {
      const clock = new ManualClock();
      const link = peer.link(clock);
      const asked = new Promise<void>((resolve) => {
        peer.answering = () => {
          resolve();
          return 'silence';
        };
      });
      const failing = reasonOf(link.transceive(GET_MANUFACTURER, NAP_MS));
      await asked;
      clock.advance(NAP_MS - 1);
      clock.advance(1);
      const error = await failing;
      expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_TPM_TIMEOUT', retryable: true });
      expect(error.message).toContain(link.place);
      expect(clock.pending).toBe(0);
      await link.close();
    });

    it('says where nobody is', async () => {
      const link = peer.deadLink(new ManualClock());
      const error = await reasonOf(link.transceive(GET_MANUFACTURER, PLENTY_MS));
      expect(error.code).toBe('ERR_DPS_HSM_TPM_UNREACHABLE');
      expect(error.message).toContain(link.place);
      await link.close();
    });
  });
}

async function reasonOf(promise: Promise<unknown>): Promise<HsmError> {
  const reason: unknown = await promise.then(
    (value) => new Error(`It gave ${String(value)}.`),
    (error: unknown) => error,
  );
  if (reason instanceof HsmError) return reason;
  throw reason;
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
