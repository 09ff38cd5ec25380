/** A remaining length of MQTT has four digits at most (MQTT 3.1.1, section 2.2.3); more is the parser's to complain of. */
const MAX_LENGTH_DIGITS = 4;

/** Follows a stream of MQTT packets by their fixed headers, and knows a packet that is too large before it has come. */
export class MqttPacketMeter {
  readonly #maxBytes: number;
  /** Of the body of the packet under way: bytes still to come. */
  #bodyBytesLeft = 0;
  /** Digits of the remaining length so far; undefined before the packet's first byte. */
  #digits: number[] | undefined;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether a packet that begins in `chunk`, the next bytes of the stream, announces more than the most. */
  exceeds(chunk: Uint8Array): boolean {
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#bodyBytesLeft > 0) {
        const skipped = Math.min(this.#bodyBytesLeft, chunk.length - offset);
        this.#bodyBytesLeft -= skipped;
        offset += skipped;
      } else {
        if (this.#isTooLargeAfter(chunk[offset] ?? 0)) return true;
        offset += 1;
      }
    }
    return false;
  }

  /** Takes one byte of a fixed header. */
  #isTooLargeAfter(byte: number): boolean {
    if (this.#digits === undefined) {
      this.#digits = [];
      return false;
    }
    this.#digits.push(byte);
    if (byte >= 0x80 && this.#digits.length < MAX_LENGTH_DIGITS) return false;
    this.#bodyBytesLeft = this.#digits.reduce((sum, digit, index) => sum + (digit & 0x7f) * 128 ** index, 0);
    this.#digits = undefined;
    return this.#bodyBytesLeft > this.#maxBytes;
  }
}
