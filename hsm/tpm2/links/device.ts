import { close, constants, fstat, open, read, write } from 'node:fs';
import { isatty } from 'node:tty';
import { promisify } from 'node:util';
import { concatBytes } from '../../../src/core/bytes.js';
import type { Clock } from '../../../src/core/clock.js';
import type { HsmError } from '../../../src/errors.js';
import type { TpmLink } from './link.js';
import { garbage, linkError, responseSize, systemCode, timedOut, truncated } from './link-error.js';

/** What of the file system the device link uses. */
export interface DeviceFiles {
  /** Read and write; refuses what is no device, before a byte goes there. */
  open(path: string): Promise<number>;
  /** One system call; gives what it gives. */
  write(descriptor: number, bytes: Uint8Array): Promise<number>;
  read(descriptor: number, into: Uint8Array): Promise<number>;
  close(descriptor: number): Promise<void>;
}

const HEAD_BYTES = 10;
/** Older kernels drop what a read does not take. */
const READ_BYTES = 4096;

/**
 * Devices with a command that has not come back yet, of all links of the process. Each of them blocks one of the few
 * threads that Node has for files, so nothing more is sent there.
 */
const stuck: Set<string> = new Set();

/**
 * The kernel's character device. `/dev/tpmrm0` gives every open file its own objects and sessions, and flushes them when
 * it is closed; `/dev/tpm0` is the TPM itself, for one program at a time.
 *
 * A command is one `write`, which comes back when the TPM is done, and then a `read`. Not with O_NONBLOCK: there `poll`
 * and `read` would wait for the lock that the command holds (drivers/char/tpm/tpm-dev-common.c), in the event loop's
 * thread, too. So the wait is a file thread's. The kernel ends it after minutes at the latest; the caller's time bound
 * ends only the waiting for it, and until the command is back the device takes no other.
 */
export class DeviceLink implements TpmLink {
  readonly place: string;
  readonly #clock: Clock;
  readonly #files: DeviceFiles;
  #descriptor: number | undefined;
  #closing: Promise<void> = Promise.resolve();

  constructor(path: string, clock: Clock, files: DeviceFiles = deviceFiles) {
    this.place = path;
    this.#clock = clock;
    this.#files = files;
  }

  async transceive(command: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (stuck.has(this.place)) throw stillBusy(this.place);
    let isLate = false;
    const answer = this.#exchange(command).finally(() => {
      if (!isLate) return;
      stuck.delete(this.place);
      this.rest();
    });
    return new Promise<Uint8Array>((resolve, reject) => {
      const stopTimer = this.#clock.after(timeoutMs, () => {
        isLate = true;
        stuck.add(this.place);
        reject(timedOut(this.place, timeoutMs));
      });
      answer.finally(stopTimer).then(resolve, reject);
    });
  }

  /** Gives the device up; the kernel flushes whatever is left behind. */
  rest(): void {
    const descriptor = this.#descriptor;
    if (descriptor === undefined || stuck.has(this.place)) return;
    this.#descriptor = undefined;
    this.#closing = this.#files.close(descriptor).catch(() => undefined);
  }

  async close(): Promise<void> {
    this.rest();
    await this.#closing;
  }

  async #exchange(command: Uint8Array): Promise<Uint8Array> {
    const descriptor = await this.#opened();
    try {
      const written = await this.#write(descriptor, command);
      if (written !== command.length) {
        throw garbage(this.place, `it took ${written} of the ${command.length} bytes of a command`);
      }
      return await this.#readResponse(descriptor);
    } catch (error) {
      // After a failure nobody knows what is left in the driver's buffer; a file opened anew has an empty one.
      this.#descriptor = undefined;
      this.#closing = this.#files.close(descriptor).catch(() => undefined);
      throw explain(error, this.place);
    }
  }

  async #opened(): Promise<number> {
    await this.#closing;
    try {
      this.#descriptor ??= await this.#files.open(this.place);
      return this.#descriptor;
    } catch (error) {
      throw explain(error, this.place);
    }
  }

  /** A response that nobody has read yet is in the way: it is read and dropped. */
  async #write(descriptor: number, command: Uint8Array): Promise<number> {
    try {
      return await this.#files.write(descriptor, command);
    } catch (error) {
      if (systemCode(error) !== 'EBUSY') throw error;
      await this.#files.read(descriptor, new Uint8Array(READ_BYTES));
      return this.#files.write(descriptor, command);
    }
  }

  async #readResponse(descriptor: number): Promise<Uint8Array> {
    let response: Uint8Array = new Uint8Array();
    let size = HEAD_BYTES;
    while (response.length < size) {
      const chunk = new Uint8Array(READ_BYTES);
      const length = await this.#files.read(descriptor, chunk);
      if (length === 0 && response.length === 0) {
        throw garbage(this.place, 'it takes a command and gives nothing back');
      }
      if (length === 0) throw truncated(this.place, response.length, size);
      response = concatBytes(response, chunk.subarray(0, length));
      if (response.length >= HEAD_BYTES) size = responseSize(response, this.place);
    }
    if (response.length > size) throw garbage(this.place, `${response.length - size} bytes follow the response`);
    return response;
  }
}

const openFile = promisify(open);
const statDescriptor = promisify(fstat);
const readDescriptor = promisify(read);
const writeDescriptor = promisify(write);
const closeDescriptor = promisify(close);

/** The real ones. Not a `FileHandle`: one that is collected before it is closed ends the process some day. */
export const deviceFiles: DeviceFiles = {
  async open(path) {
    const descriptor = await openFile(path, constants.O_RDWR | (constants.O_NOCTTY ?? 0));
    const stats = await statDescriptor(descriptor);
    if (stats.isCharacterDevice() && !isatty(descriptor)) return descriptor;
    await closeDescriptor(descriptor);
    throw linkError(
      'ERR_DPS_HSM_TPM_UNREACHABLE',
      `${path} is no TPM device: it is not a character device, or it is a terminal. Give /dev/tpmrm0, or what ls /dev/tpm* lists.`,
    );
  },
  write: async (descriptor, bytes) => (await writeDescriptor(descriptor, bytes, 0, bytes.length, null)).bytesWritten,
  read: async (descriptor, into) => (await readDescriptor(descriptor, into, 0, into.length, null)).bytesRead,
  close: closeDescriptor,
};

function stillBusy(place: string): HsmError {
  return linkError(
    'ERR_DPS_HSM_TPM_BUSY',
    `${place} has not answered an earlier command yet, and takes no other until it has. Wait; if it stays so, look for what the kernel log says of the TPM.`,
    { retryable: true },
  );
}

function explain(error: unknown, place: string): unknown {
  const code = systemCode(error);
  const known = SYSTEM_ERRORS[code];
  if (known === undefined) return error;
  const { errorCode, say, retryable = false } = known;
  return linkError(errorCode, say(place), { retryable, cause: error });
}

interface SystemError {
  readonly errorCode: Parameters<typeof linkError>[0];
  readonly say: (place: string) => string;
  readonly retryable?: boolean;
}

const MISSING: SystemError = {
  errorCode: 'ERR_DPS_HSM_TPM_UNREACHABLE',
  say: (place) =>
    `There is no TPM device ${place}. Check that the TPM is enabled in the firmware and its driver is loaded (ls /dev/tpm*), or give another one as option hsm.link.`,
};
const FORBIDDEN: SystemError = {
  errorCode: 'ERR_DPS_HSM_TPM_PERMISSION',
  say: (place) =>
    `This process may not use ${place}. Put its user into the group of the device (usually tss: usermod -aG tss USER, then log in anew), or give a container the device and that group.`,
};
const BROKEN: SystemError = {
  errorCode: 'ERR_DPS_HSM_TPM_CONNECTION_LOST',
  say: (place) =>
    `The driver of ${place} gave up on a command. Look for what the kernel log says of the TPM; it may have to be powered off and on.`,
  retryable: true,
};

/** What drivers/char/tpm answers with. */
const SYSTEM_ERRORS: Readonly<Record<string, SystemError>> = {
  ENOENT: MISSING,
  ENOTDIR: MISSING,
  ENXIO: MISSING,
  ENODEV: MISSING,
  EISDIR: MISSING,
  EACCES: FORBIDDEN,
  EPERM: FORBIDDEN,
  EROFS: FORBIDDEN,
  EBUSY: {
    errorCode: 'ERR_DPS_HSM_TPM_BUSY',
    say: (place) =>
      `Another program holds ${place}. Use /dev/tpmrm0, which any number of programs can open, or end the other one (fuser ${place} finds it).`,
    retryable: true,
  },
  ENOMEM: {
    errorCode: 'ERR_DPS_HSM_TPM_FULL',
    say: (place) => `The kernel has no room for another object or session at ${place}. Try again later.`,
    retryable: true,
  },
  EIO: BROKEN,
  EPIPE: BROKEN,
  ETIME: BROKEN,
  ETIMEDOUT: BROKEN,
  EINVAL: BROKEN,
  E2BIG: BROKEN,
  ECANCELED: BROKEN,
};
