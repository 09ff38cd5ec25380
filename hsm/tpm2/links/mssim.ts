import { concatBytes } from '../../../src/core/bytes.js';
import type { Clock } from '../../../src/core/clock.js';
import { TpmReader, u8, u32 } from '../structures.js';
import type { TpmLink } from './link.js';
import { garbage, linkClosed, linkError, responseSize, timedOut } from './link-error.js';
import { SocketStream, targetName } from './socket-stream.js';

const SEND_COMMAND = 8;
const POWER_ON = 1;
const NV_ON = 11;
const SESSION_END = 20;
const LOCALITY = 0;
const MAX_RESPONSE_BYTES = 4096;

/**
 * The TPM 2.0 reference simulator (ms-tpm-20-ref): commands on `port`, switches on the port above it. It serves one
 * connection a port, so this one is given up whenever no command is waiting.
 *
 * ```
 * command port    00000008 00 size(4) command   ->  size(4) response 00000000
 * platform port   00000001 (power on)           ->  00000000
 *                 0000000b (NV on)              ->  00000000
 * both            00000014 (end of session)
 * ```
 */
export class MssimLink implements TpmLink {
  readonly place: string;
  readonly #host: string;
  readonly #port: number;
  readonly #clock: Clock;
  #isPoweredOn = false;
  #stream: SocketStream | undefined;
  /** The one to fail when time is up: that of the command, or of the switches. */
  #current: SocketStream | undefined;

  constructor(target: { readonly host: string; readonly port: number }, clock: Clock) {
    this.#host = target.host;
    this.#port = target.port;
    this.#clock = clock;
    this.place = `mssim at ${targetName(target)}`;
  }

  async transceive(command: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const stopTimer = this.#clock.after(timeoutMs, () => this.#current?.fail(timedOut(this.place, timeoutMs)));
    try {
      if (!this.#isPoweredOn) await this.#powerOn();
      // An empty response means that it was switched off since.
      let response = await this.#exchange(command);
      if (response.length === 0) {
        await this.#powerOn();
        response = await this.#exchange(command);
      }
      if (response.length > 0) return response;
      throw linkError(
        'ERR_DPS_HSM_TPM_NOT_STARTED',
        `The TPM at ${this.place} has no power, and switching it on did not help. Restart the simulator.`,
      );
    } catch (error) {
      // What else may be on its way there would be taken for the next answer.
      this.#drop();
      throw error;
    } finally {
      stopTimer();
      this.#current = undefined;
    }
  }

  rest(): void {
    this.#stream?.end(u32(SESSION_END));
    this.#stream = undefined;
  }

  async close(): Promise<void> {
    this.#current?.fail(linkClosed(this.place));
    this.rest();
  }

  async #exchange(command: Uint8Array): Promise<Uint8Array> {
    const stream = await this.#connected();
    stream.write(concatBytes(u32(SEND_COMMAND), u8(LOCALITY), u32(command.length), command));
    const size = await readNumber(stream);
    if (size > MAX_RESPONSE_BYTES) throw garbage(this.place, `it announces ${size} bytes`);
    const response = await stream.read(size);
    await this.#expectAcknowledgement(stream);
    if (size > 0 && responseSize(response, this.place) !== size) {
      throw garbage(this.place, `the response has another size than the ${size} bytes that were announced`);
    }
    return response;
  }

  async #connected(): Promise<SocketStream> {
    this.#stream ??= new SocketStream({ host: this.#host, port: this.#port }, this.place);
    this.#current = this.#stream;
    await this.#stream.connected();
    return this.#stream;
  }

  async #powerOn(): Promise<void> {
    const target = { host: this.#host, port: this.#port + 1 };
    const stream = new SocketStream(target, `the platform port ${target.port} of ${this.place}`);
    this.#current = stream;
    try {
      await stream.connected();
      for (const signal of [POWER_ON, NV_ON]) {
        stream.write(u32(signal));
        await this.#expectAcknowledgement(stream);
      }
      this.#isPoweredOn = true;
    } finally {
      stream.end(u32(SESSION_END));
    }
  }

  async #expectAcknowledgement(stream: SocketStream): Promise<void> {
    const acknowledgement = await readNumber(stream);
    if (acknowledgement !== 0) throw garbage(this.place, `it acknowledges with ${acknowledgement} instead of 0`);
    if (stream.surplus > 0) throw garbage(this.place, `${stream.surplus} bytes follow the response`);
  }

  #drop(): void {
    this.#stream?.end();
    this.#stream = undefined;
    this.#isPoweredOn = false;
  }
}

async function readNumber(stream: SocketStream): Promise<number> {
  return new TpmReader(await stream.read(4), 'a number').u32('it');
}
