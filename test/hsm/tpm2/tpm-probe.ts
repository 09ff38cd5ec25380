import { SwtpmLink } from '../../../hsm/tpm2/links/swtpm.js';
import { systemClock } from '../../../src/system-clock.js';
import type { Swtpm } from './swtpm-process.js';

/** Hex of parts of a command; spaces are for the reader. */
const hex = (text: string): Buffer => Buffer.from(text.replace(/ /g, ''), 'hex');
const be32 = (value: number): string => value.toString(16).padStart(8, '0');
const sized = (bytes: Buffer): string => bytes.length.toString(16).padStart(4, '0') + bytes.toString('hex');

/** `TPMT_PUBLIC` of keys that are not those we want. */
const TEMPLATES = {
  ecc: '0023 000b 00030472 0000 0006 0080 0043 0010 0003 0010 0000 0000',
  'rsa-signing': '0001 000b 00040072 0000 0010 0010 0800 00000000 0000',
  'rsa-storage': '0001 000b 00030472 0000 0006 0080 0043 0010 0800 00000000 0000',
} as const;

/** Who tampers with a TPM, and looks what is in it: in literal bytes, past everything that is under test. */
export class TpmProbe {
  readonly #swtpm: Swtpm;

  constructor(swtpm: Swtpm) {
    this.#swtpm = swtpm;
  }

  /** Gives the response code, and what follows it. */
  async send(body: string, sessions = false): Promise<{ code: number; body: Buffer }> {
    const bytes = hex(body);
    const head = hex(`${sessions ? '8002' : '8001'} ${be32(bytes.length + 6)}`);
    const { port, socketPath } = this.#swtpm;
    const target = port === undefined ? { path: socketPath } : { host: '127.0.0.1', port };
    const response = Buffer.from(
      await new SwtpmLink(target, systemClock).transceive(Buffer.concat([head, bytes]), 60_000),
    );
    return { code: response.readUInt32BE(6), body: response.subarray(10) };
  }

  /** With one handle under a password. */
  async command(
    code: string,
    handle: number,
    parameters: string,
    password = Buffer.alloc(0),
    more = '',
  ): Promise<Buffer> {
    const auth = `40000009 0000 01 ${sized(password)}`;
    const size = be32(9 + password.length);
    const { code: refusal, body } = await this.send(
      `${code} ${be32(handle)} ${more} ${size} ${auth} ${parameters}`,
      true,
    );
    if (refusal !== 0) throw new Error(`The TPM refused ${code} with ${refusal.toString(16)}`);
    return body;
  }

  /** From `first` on, of that range. */
  async handles(first: number): Promise<number[]> {
    const { body } = await this.send(`0000017a 00000001 ${be32(first)} 000000fe`);
    return Array.from({ length: body.readUInt32BE(5) }, (_, index) => body.readUInt32BE(9 + index * 4));
  }

  /** Transient objects and sessions, loaded or saved. */
  async leaks(): Promise<number[]> {
    const found: number[] = [];
    for (const first of [0x8000_0000, 0x0200_0000, 0x0300_0000]) found.push(...(await this.handles(first)));
    return found;
  }

  persistent(): Promise<number[]> {
    return this.handles(0x8100_0000);
  }

  async clear(): Promise<void> {
    await this.command('00000126', 0x4000_000a, '');
  }

  async changeAuth(hierarchy: 'owner' | 'endorsement', password: string, old = ''): Promise<void> {
    const handle = hierarchy === 'owner' ? 0x4000_0001 : 0x4000_000b;
    await this.command('00000129', handle, sized(Buffer.from(password)), Buffer.from(old));
  }

  /** By the platform, until the next start. */
  async disable(hierarchy: 'owner' | 'endorsement'): Promise<void> {
    await this.command('00000121', 0x4000_000c, `${hierarchy === 'owner' ? '40000001' : '4000000b'} 00`);
  }

  /** No try is allowed: from now on the TPM is in lockout. */
  async lockOut(): Promise<void> {
    await this.command('0000013a', 0x4000_000a, '00000000 000003e8 000003e8');
  }

  /** A primary key of the owner hierarchy, at a persistent handle or (undefined) left loaded. */
  async occupy(kind: keyof typeof TEMPLATES, handle?: number): Promise<number> {
    const parameters = `0004 0000 0000 ${sized(hex(TEMPLATES[kind]))} 0000 00000000`;
    const loaded = (await this.command('00000131', 0x4000_0001, parameters)).readUInt32BE(0);
    if (handle === undefined) return loaded;
    await this.command('00000120', 0x4000_0001, be32(handle), Buffer.alloc(0), be32(loaded));
    await this.send(`00000165 ${be32(loaded)}`);
    return handle;
  }

  async evict(handle: number): Promise<void> {
    await this.command('00000120', 0x4000_0001, be32(handle), Buffer.alloc(0), be32(handle));
  }

  async flush(handle: number): Promise<void> {
    await this.send(`00000165 ${be32(handle)}`);
  }

  /** A policy session that nobody ends. */
  async leaveSession(): Promise<number> {
    const { body } = await this.send(`00000176 40000007 40000007 0010 ${'11'.repeat(16)} 0000 01 0010 000b`);
    return body.readUInt32BE(0);
  }
}
