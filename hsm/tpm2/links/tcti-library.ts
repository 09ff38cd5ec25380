import { ConfigurationError } from '../../../src/errors.js';
import { loadKoffi } from './koffi.js';

/**
 * `libtss2-tctildr` of tpm2-tss: it loads the TCTI of a name, and gives a context whose functions send and receive. Every
 * call that may wait is made on a thread of Node's pool.
 *
 * @see TSS 2.0 TPM Command Transmission Interface (TCTI) API Specification
 */
export interface TctiLibrary {
  /** @throws {TctiFailure} at `open`. */
  open(name: string): Promise<TctiContext>;
}

export interface TctiContext {
  /** @throws {TctiFailure} at `transmit`. */
  transmit(command: Uint8Array): Promise<void>;
  /** Whether something has come to receive. Says no after `withinMs` at the latest; yes where a TCTI cannot tell. */
  hasResponse(withinMs: number): Promise<boolean>;
  /** @throws {TctiFailure} at `receive`. */
  receive(): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** What tpm2-tss answered instead of 0. Inside the link only: what leaves it is an error of the package. */
export class TctiFailure extends Error {
  override readonly name: string = 'TctiFailure';
  readonly step: 'open' | 'transmit' | 'receive';
  /** Without the number of the layer: compare it with `TCTI_RC`. */
  readonly code: number;

  constructor(step: TctiFailure['step'], code: number) {
    super(`tpm2-tss gave the code ${code.toString(16).padStart(8, '0')} when asked to ${step}`);
    this.step = step;
    this.code = code & 0xffff;
  }
}

/** tss2_common.h */
export const TCTI_RC = {
  BAD_VALUE: 0x000b,
  NOT_PERMITTED: 0x000c,
  MALFORMED_RESPONSE: 0x0011,
  INSUFFICIENT_BUFFER: 0x0006,
  NOT_SUPPORTED: 0x0015,
} as const;

const TCTI_LOADER = 'libtss2-tctildr.so.0';

/** No TPM gives more. */
const RESPONSE_BYTES = 4096;
const WAIT_FOR_EVER = -1;
const MAX_POLL_HANDLES = 16;
const POLLIN = 0x0001;

/** What is used of koffi: only this is relied on. */
export interface Koffi {
  load(path: string | null): { func(name: string, result: string, parameters: readonly string[]): NativeFunction };
  struct(members: Readonly<Record<string, string>>): object;
  proto(result: string, parameters: readonly string[]): object;
  decode(pointer: unknown, type: object): unknown;
  sizeof(type: string | object): number;
}

interface NativeFunction {
  // biome-ignore lint/suspicious/noExplicitAny: a function of C; its parameters were declared where it was found.
  async(...parametersAndCallback: any[]): void;
}

/** Memory that C works in while a call is under way: nobody else may be holding it. */
const inUse: Set<readonly unknown[]> = new Set();

function call(native: NativeFunction, ...parameters: readonly unknown[]): Promise<number> {
  return new Promise((resolve, reject) => {
    inUse.add(parameters);
    native.async(...parameters, (error: unknown, result: number) => {
      inUse.delete(parameters);
      if (error === null || error === undefined) resolve(result);
      else reject(error);
    });
  });
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_UNSUPPORTED` when koffi or the library is missing. */
export async function loadTctiLibrary(
  importPackage?: (name: string) => Promise<unknown>,
  fileName: string = TCTI_LOADER,
): Promise<TctiLibrary> {
  const koffi = await loadKoffi(importPackage);
  const library = loadLibrary(koffi, fileName);
  const initialize = library.func('Tss2_TctiLdr_Initialize', 'uint32_t', ['str', 'void *']);
  const functions = new TctiFunctions(koffi, library);
  return {
    async open(name) {
      const slot = new BigUint64Array(1);
      const code = await call(initialize, name, slot);
      if (code !== 0) throw new TctiFailure('open', code);
      return functions.contextAt(slot);
    },
  };
}

function loadLibrary(koffi: Koffi, fileName: string): ReturnType<Koffi['load']> {
  try {
    return koffi.load(fileName);
  } catch (cause) {
    throw new ConfigurationError({
      code: 'ERR_DPS_CONFIG_UNSUPPORTED',
      message: `Links of the kind tcti need ${fileName} of tpm2-tss, which could not be loaded here. Install it (Debian: apt-get install libtss2-tctildr0, and libtss2-tcti-NAME0 for each TCTI).`,
      option: 'hsm.link',
      cause,
    });
  }
}

/** The functions of a context are found in it: C calls them by macros. */
class TctiFunctions {
  readonly #koffi: Koffi;
  readonly #finalize: NativeFunction;
  readonly #poll: NativeFunction;
  readonly #context: object;
  readonly #transmit: object;
  readonly #receive: object;
  readonly #getPollHandles: object;

  constructor(koffi: Koffi, library: ReturnType<Koffi['load']>) {
    this.#koffi = koffi;
    this.#finalize = library.func('Tss2_TctiLdr_Finalize', 'void', ['void *']);
    // The C library that Node itself runs on, whichever it is.
    this.#poll = koffi.load(null).func('poll', 'int', ['void *', 'unsigned long', 'int']);
    this.#context = koffi.struct({
      magic: 'uint64_t',
      version: 'uint32_t',
      transmit: 'void *',
      receive: 'void *',
      finalize: 'void *',
      cancel: 'void *',
      getPollHandles: 'void *',
      setLocality: 'void *',
    });
    this.#transmit = koffi.proto('uint32_t', ['void *', 'size_t', 'void *']);
    this.#receive = koffi.proto('uint32_t', ['void *', 'void *', 'void *', 'int32_t']);
    this.#getPollHandles = koffi.proto('uint32_t', ['void *', 'void *', 'void *']);
  }

  contextAt(slot: BigUint64Array): TctiContext {
    const pointer = slot[0];
    const members = this.#koffi.decode(pointer, this.#context) as Readonly<Record<string, unknown>>;
    const native = (name: string, type: object): NativeFunction =>
      this.#koffi.decode(members[name], type) as NativeFunction;
    const transmit = native('transmit', this.#transmit);
    const receive = native('receive', this.#receive);
    const getPollHandles = native('getPollHandles', this.#getPollHandles);
    return {
      async transmit(command) {
        const code = await call(transmit, pointer, command.length, Uint8Array.from(command));
        if (code !== 0) throw new TctiFailure('transmit', code);
      },
      hasResponse: async (withinMs) => {
        const handles = new PollHandles();
        if ((await call(getPollHandles, pointer, handles.memory, handles.count)) !== 0) return true;
        return (await call(this.#poll, handles.onlyInput(), handles.count[0], withinMs)) !== 0;
      },
      async receive() {
        const response = new Uint8Array(RESPONSE_BYTES);
        const size = BigUint64Array.of(BigInt(response.length));
        const code = await call(receive, pointer, size, response, WAIT_FOR_EVER);
        if (code !== 0) throw new TctiFailure('receive', code);
        return response.slice(0, Number(size[0]));
      },
      close: async () => {
        await call(this.#finalize, slot);
      },
    };
  }
}

/** An array of `struct pollfd`: descriptor (4 bytes), events (2), and what came of it (2). */
class PollHandles {
  readonly memory: Int16Array = new Int16Array(4 * MAX_POLL_HANDLES);
  readonly count: BigUint64Array = BigUint64Array.of(BigInt(MAX_POLL_HANDLES));

  /** Some TCTIs ask to be told of room for output, too, which there always is. */
  onlyInput(): Int16Array {
    for (let index = 2; index < this.memory.length; index += 4) this.memory[index] = POLLIN;
    return this.memory;
  }
}
