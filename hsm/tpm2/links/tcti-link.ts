import { stat } from 'node:fs/promises';
import type { Clock } from '../../../src/core/clock.js';
import { ConfigurationError, type HsmError } from '../../../src/errors.js';
import type { TpmLink } from './link.js';
import { garbage, linkClosed, linkError, responseSize, timedOut } from './link-error.js';
import { loadTctiLibrary, TCTI_RC, type TctiContext, TctiFailure, type TctiLibrary } from './tcti-library.js';

/** What the link gets from outside; a test brings its own. */
export interface TctiSurroundings {
  loadLibrary(): Promise<TctiLibrary>;
  /** Whether there is a character device. `undefined`: nothing is there, or it may not be looked at. */
  isDevice(path: string): Promise<boolean | undefined>;
}

/** So long a thread waits for a response before it looks whether anybody still wants one. */
const SLICE_MS = 100;

/**
 * Calls that came back too late, or have not come back yet, of all links of the process, by place. A call of C cannot be
 * called off: what comes next to the same place waits for it, rather than block another of the few threads that Node has.
 */
const late: Map<string, Promise<unknown>> = new Map();

/** One command, from the call to its end. It may have failed for who waits for it while C still runs. */
interface Exchange {
  failure?: HsmError;
  giveUp(error: HsmError): void;
}

/**
 * Any TPM that an installed tpm2-tss can reach, through `libtss2-tctildr`: `tabrmd:` (the resource manager's daemon),
 * `device:/dev/tpmrm0`, `swtpm:host=127.0.0.1,port=2321`, `mssim:…`, or the name of another TCTI.
 *
 * A call of C that never comes back, such as a connection to a simulator that is halted, fails here in time all the same,
 * but keeps its thread, and the process from ending by itself.
 */
export class TctiLink implements TpmLink {
  readonly place: string;
  readonly #name: string;
  readonly #clock: Clock;
  readonly #surroundings: TctiSurroundings;
  #library: Promise<TctiLibrary> | undefined;
  /** Open, and no call of C is at work in it. */
  #idle: TctiContext | undefined;
  #closing: Promise<unknown> = Promise.resolve();
  #current: Exchange | undefined;

  /** @param name as tpm2-tss spells it: the TCTI, and after a colon what it is to be told. */
  constructor(name: string, clock: Clock, surroundings: Partial<TctiSurroundings> = {}) {
    this.#name = name;
    this.#clock = clock;
    this.#surroundings = { ...host, ...surroundings };
    this.place = `TCTI ${name}`;
  }

  async transceive(command: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    return new Promise<Uint8Array>((resolve, reject) => {
      const exchange: Exchange = {
        giveUp: (error) => {
          exchange.failure = error;
          over();
          this.#leaveBehind(answer);
          reject(error);
        },
      };
      this.#current = exchange;
      const stopTimer = this.#clock.after(timeoutMs, () => exchange.giveUp(timedOut(this.place, timeoutMs)));
      const over = (): void => {
        stopTimer();
        if (this.#current === exchange) this.#current = undefined;
      };
      const answer = this.#exchange(command, exchange).finally(over);
      answer.then(resolve, reject);
    });
  }

  /** Gives the context up, and with it the connection that only one program may have. */
  rest(): void {
    if (this.#idle === undefined) return;
    this.#drop(this.#idle);
    this.#idle = undefined;
  }

  async close(): Promise<void> {
    this.#current?.giveUp(linkClosed(this.place));
    this.rest();
    await this.#closing;
  }

  #drop(context: TctiContext): void {
    this.#closing = context.close().catch(() => undefined);
  }

  #leaveBehind(answer: Promise<unknown>): void {
    const over = Promise.allSettled([late.get(this.place), answer]).then(async () => {
      await this.#closing;
      if (late.get(this.place) === over) late.delete(this.place);
    });
    late.set(this.place, over);
  }

  async #exchange(command: Uint8Array, exchange: Exchange): Promise<Uint8Array> {
    await late.get(this.place);
    requireWanted(exchange);
    const context = this.#idle ?? (await this.#opened());
    // From here on nobody else may close it: C would go on in memory that was given back.
    this.#idle = undefined;
    try {
      requireWanted(exchange);
      await context.transmit(command);
      while (!(await context.hasResponse(SLICE_MS))) requireWanted(exchange);
      const response = this.#checked(await context.receive());
      requireWanted(exchange);
      this.#idle = context;
      return response;
    } catch (error) {
      // Nobody knows what is still on its way.
      this.#drop(context);
      throw error instanceof TctiFailure ? this.#explain(error) : error;
    }
  }

  async #opened(): Promise<TctiContext> {
    this.#library ??= this.#surroundings.loadLibrary();
    const library = await this.#library;
    await this.#requireDevice();
    await this.#closing;
    try {
      return await library.open(this.#name);
    } catch (error) {
      throw error instanceof TctiFailure ? this.#explainOpening(error) : error;
    }
  }

  /** tpm2-tss writes a command into whatever file it is given, to see whether it is a TPM. */
  async #requireDevice(): Promise<void> {
    const path = /^(?:libtss2-tcti-)?device(?:\.so(?:\.\d+)*)?:(.+)$/s.exec(this.#name)?.[1];
    if (path === undefined || (await this.#surroundings.isDevice(path)) !== false) return;
    throw linkError(
      'ERR_DPS_HSM_TPM_UNREACHABLE',
      `${path} is no TPM device: it is not a character device. Give /dev/tpmrm0, or what ls /dev/tpm* lists.`,
    );
  }

  #checked(response: Uint8Array): Uint8Array {
    const size = responseSize(response, this.place);
    if (size === response.length) return response;
    throw garbage(this.place, `it has ${response.length} bytes and says that it has ${size}`);
  }

  #explain(failure: TctiFailure): Error {
    const { code } = failure;
    if (code === TCTI_RC.MALFORMED_RESPONSE || code === TCTI_RC.INSUFFICIENT_BUFFER) {
      return garbage(this.place, failure.message);
    }
    const message = `The connection of ${this.place} broke before the TPM answered: ${failure.message}. Check that what serves the TPM still runs; with TSS2_LOG=all+error in the environment, tpm2-tss writes more to standard error.`;
    return linkError('ERR_DPS_HSM_TPM_CONNECTION_LOST', message, { retryable: true, cause: failure });
  }

  #explainOpening(failure: TctiFailure): Error {
    const [kind = ''] = this.#name.split(':');
    if (failure.code === TCTI_RC.NOT_SUPPORTED) {
      return configurationError(
        'ERR_DPS_CONFIG_UNSUPPORTED',
        `tpm2-tss finds no TCTI ${JSON.stringify(kind)}. Correct the name in option hsm.link, or install it (Debian: apt-get install libtss2-tcti-${kind}0).`,
        failure,
      );
    }
    if (failure.code === TCTI_RC.BAD_VALUE) {
      return configurationError(
        'ERR_DPS_CONFIG_OPTION',
        `The TCTI ${kind} does not understand what follows its name in option hsm.link: ${this.#name}. See man tss2-tcti-${kind}.`,
        failure,
      );
    }
    const isForbidden = failure.code === TCTI_RC.NOT_PERMITTED;
    const message = `tpm2-tss does not reach a TPM at ${this.place}: ${failure.message}. Check that what serves it runs and that this process may use it, or correct option hsm.link; tpm2-tss writes the reason to standard error, unless TSS2_LOG tells it not to.`;
    return linkError(isForbidden ? 'ERR_DPS_HSM_TPM_PERMISSION' : 'ERR_DPS_HSM_TPM_UNREACHABLE', message, {
      retryable: !isForbidden,
      cause: failure,
    });
  }
}

const host: TctiSurroundings = {
  loadLibrary: () => loadTctiLibrary(),
  isDevice: (path) =>
    stat(path).then(
      (stats) => stats.isCharacterDevice(),
      () => undefined,
    ),
};

function requireWanted({ failure }: Exchange): void {
  if (failure !== undefined) throw failure;
}

function configurationError(
  code: 'ERR_DPS_CONFIG_UNSUPPORTED' | 'ERR_DPS_CONFIG_OPTION',
  message: string,
  cause: unknown,
): ConfigurationError {
  return new ConfigurationError({ code, message, option: 'hsm.link', cause });
}
