import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { type DeviceFiles, DeviceLink } from '../../../hsm/tpm2/links/device.js';
import type { TpmLink } from '../../../hsm/tpm2/links/link.js';
import { MssimLink } from '../../../hsm/tpm2/links/mssim.js';
import { SwtpmLink } from '../../../hsm/tpm2/links/swtpm.js';
import type { Clock } from '../../../src/core/clock.js';
import { freePortPair } from './swtpm-process.js';

/** What the peer does with a command. */
export type Answer =
  | {
      /** As the TPM gives it; the framing is the peer's. */
      readonly response: Uint8Array;
      /** Cut the framed answer after so many bytes, and hang up. */
      readonly cutAfter?: number;
      /** In pieces of so many bytes. */
      readonly pieces?: number;
    }
  | 'silence'
  | 'hang up';

export type Answering = (command: Uint8Array) => Answer | Promise<Answer>;

/** The other side of a link, played in this process. */
export interface TpmPeer {
  answering: Answering;
  readonly commands: Uint8Array[];
  link(clock: Clock): TpmLink;
  /** To where nobody is. */
  deadLink(clock: Clock): TpmLink;
  /** Connections or files that the link has open. */
  openEnds(): Promise<number>;
  /** Bytes that frame a response of `length`, in front and behind: where it may be cut. */
  framedLength(length: number): number;
  close(): Promise<void>;
}

/** swtpm's data channel: raw commands, raw responses. */
export async function startRawPeer(answering: Answering): Promise<TpmPeer> {
  const peer: TpmPeer = {
    answering,
    commands: [],
    link: (clock) => new SwtpmLink({ host: '127.0.0.1', port }, clock),
    deadLink: (clock) => new SwtpmLink({ host: '127.0.0.1', port: deadPort }, clock),
    openEnds: () => countOf(sockets),
    framedLength: (length) => length,
    close: () => closeAll([server], sockets),
  };
  const { sockets, server, port } = await listen(0, (socket) =>
    serve(socket, async (reader) => {
      const head = await reader.take(10);
      const command = Buffer.concat([head, await reader.take(head.readUInt32BE(2) - 10)]);
      peer.commands.push(command);
      return [await peer.answering(command), (response) => response];
    }),
  );
  const deadPort = await freePortPair();
  return peer;
}

/**
 * The reference simulator's two ports, written from its protocol: whatever stands behind `answering`, for example a
 * swtpm, is spoken to in its framing. Like the original it serves one connection a port, and others wait.
 */
export async function startMssimPeer(
  answering: Answering,
): Promise<TpmPeer & { readonly port: number; isOn: boolean; signals: number[] }> {
  const port = await freePortPair();
  const deadPort = await freePortPair();
  const commandLine = new OneAtATime();
  const platformLine = new OneAtATime();
  const peer = {
    answering,
    commands: [] as Uint8Array[],
    signals: [] as number[],
    isOn: false,
    port,
    link: (clock: Clock) => new MssimLink({ host: '127.0.0.1', port }, clock),
    deadLink: (clock: Clock) => new MssimLink({ host: '127.0.0.1', port: deadPort }, clock),
    openEnds: () => countOf(commands.sockets, platform.sockets),
    framedLength: (length: number) => length + 8,
    close: () => closeAll([commands.server, platform.server], new Set([...commands.sockets, ...platform.sockets])),
  };
  const commands = await listen(port, (socket) =>
    commandLine.serve(socket, () =>
      serve(socket, async (reader) => {
        const order = (await reader.take(4)).readUInt32BE(0);
        if (order === 20) return ['hang up', identity];
        if (order === 15) {
          await reader.take(4);
          return [{ response: Buffer.from('000000010000000000000000', 'hex') }, identity];
        }
        if (order !== 8) throw new Error(`mssim got the order ${order}`);
        const locality = (await reader.take(1))[0];
        if (locality !== 0) throw new Error(`mssim got a command for locality ${locality}`);
        const command = await reader.take((await reader.take(4)).readUInt32BE(0));
        if (!peer.isOn) return [{ response: Buffer.alloc(8) }, identity];
        peer.commands.push(command);
        return [await peer.answering(command), mssimFramed];
      }),
    ),
  );
  const platform = await listen(port + 1, (socket) =>
    platformLine.serve(socket, () =>
      serve(socket, async (reader) => {
        const signal = (await reader.take(4)).readUInt32BE(0);
        peer.signals.push(signal);
        if (signal === 1) peer.isOn = true;
        if (signal === 2) peer.isOn = false;
        return signal === 20 ? ['hang up', identity] : [{ response: Buffer.alloc(4) }, identity];
      }),
    ),
  );
  return peer;
}

const identity = (response: Uint8Array): Uint8Array => response;

function mssimFramed(response: Uint8Array): Uint8Array {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(response.length);
  return Buffer.concat([size, response, Buffer.alloc(4)]);
}

export interface KernelDouble extends TpmPeer {
  readonly files: DeviceFiles;
  /** At most so many bytes a read; the rest stays for the next, or is dropped as by kernels before 4.20. */
  shortReads: { readonly bytes: number; readonly dropsRest: boolean } | undefined;
  /** What open or write fails with. */
  failing: { readonly at: 'open' | 'write'; readonly code: string } | undefined;
  /** Ends a command that was left in silence, as the driver does after its own time. */
  release(): void;
}

/** The rules of drivers/char/tpm/tpm-dev-common.c as a double in this process; no kernel takes part. */
export function makeKernelDouble(answering: Answering, path = `/dev/tpm-double-${++doubles}`): KernelDouble {
  interface OpenFile {
    response: Uint8Array;
  }
  const openFiles = new Map<number, OpenFile>();
  const silent: (() => void)[] = [];
  let next = 3;
  const fileOf = (descriptor: number): OpenFile => {
    const file = openFiles.get(descriptor);
    if (file === undefined) throw systemError('EBADF');
    return file;
  };
  const files: DeviceFiles = {
    async open() {
      if (double.failing?.at === 'open') throw systemError(double.failing.code);
      openFiles.set(next, { response: Buffer.alloc(0) });
      return next++;
    },
    async write(descriptor, bytes) {
      const file = fileOf(descriptor);
      if (double.failing?.at === 'write') throw systemError(double.failing.code);
      if (file.response.length > 0) throw systemError('EBUSY');
      if (bytes.length > 4096) throw systemError('E2BIG');
      if (bytes.length < 10 || bytes.length < Buffer.from(bytes).readUInt32BE(2)) throw systemError('EINVAL');
      double.commands.push(bytes);
      const answer = await double.answering(bytes);
      if (answer === 'hang up') throw systemError('EPIPE');
      if (answer === 'silence') {
        await new Promise<void>((resolve) => silent.push(resolve));
        throw systemError('ETIME');
      }
      file.response = answer.response.subarray(0, answer.cutAfter ?? answer.response.length);
      return bytes.length;
    },
    async read(descriptor, into) {
      const file = fileOf(descriptor);
      const chunk = file.response.subarray(0, Math.min(into.length, double.shortReads?.bytes ?? into.length));
      into.set(chunk);
      file.response = double.shortReads?.dropsRest === true ? Buffer.alloc(0) : file.response.subarray(chunk.length);
      return chunk.length;
    },
    async close(descriptor) {
      fileOf(descriptor);
      openFiles.delete(descriptor);
    },
  };
  const double: KernelDouble = {
    answering,
    commands: [],
    files,
    shortReads: undefined,
    failing: undefined,
    release: () => {
      for (const resolve of silent.splice(0)) resolve();
    },
    link: (clock) => new DeviceLink(path, clock, files),
    deadLink: (clock) =>
      new DeviceLink('/dev/tpm-nowhere', clock, { ...files, open: () => Promise.reject(systemError('ENOENT')) }),
    openEnds: async () => openFiles.size,
    framedLength: (length) => length,
    close: async () => double.release(),
  };
  return double;
}

let doubles = 0;

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: from the double`), { code });
}

/** Takes bytes of a connection by length. */
class ByteReader {
  #bytes: Buffer = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  #isOver = false;

  push(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    this.#wake();
  }

  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  async take(length: number): Promise<Buffer> {
    while (this.#bytes.length < length) {
      if (this.#isOver) throw new ConnectionOver();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const bytes = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return bytes;
  }
}

class ConnectionOver extends Error {}

type Framing = (response: Uint8Array) => Uint8Array;

/** Serves one connection until it is over. */
async function serve(socket: Socket, next: (reader: ByteReader) => Promise<[Answer, Framing]>): Promise<void> {
  const reader = new ByteReader();
  socket.setNoDelay(true);
  socket.on('data', (chunk: Buffer) => reader.push(chunk));
  socket.on('error', () => reader.end());
  socket.on('end', () => reader.end());
  socket.on('close', () => reader.end());
  socket.resume();
  try {
    for (;;) {
      const [answer, framing] = await next(reader);
      if (answer === 'hang up') break;
      if (answer !== 'silence') await send(socket, answer, framing);
    }
  } catch (error) {
    if (!(error instanceof ConnectionOver)) throw error;
  } finally {
    socket.destroy();
  }
}

async function send(socket: Socket, answer: Exclude<Answer, string>, framing: Framing): Promise<void> {
  const framed = framing(answer.response);
  const bytes = framed.subarray(0, answer.cutAfter ?? framed.length);
  const step = answer.pieces ?? Math.max(1, bytes.length);
  for (let offset = 0; offset < bytes.length; offset += step) {
    await new Promise<void>((resolve) => socket.write(bytes.subarray(offset, offset + step), () => resolve()));
  }
  if (answer.cutAfter === undefined) return;
  await new Promise<void>((resolve) => socket.end(() => resolve()));
  throw new ConnectionOver();
}

/** The next connection is served when the one before is over. */
class OneAtATime {
  #last: Promise<void> = Promise.resolve();

  serve(socket: Socket, work: () => Promise<void>): Promise<void> {
    socket.pause();
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }
}

async function listen(
  port: number,
  onSocket: (socket: Socket) => Promise<void>,
): Promise<{ server: Server; port: number; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    void onSocket(socket);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as { port: number }).port, sockets };
}

/** What the other side has closed counts no more, as soon as that is known here. */
async function countOf(...sets: readonly ReadonlySet<Socket>[]): Promise<number> {
  const count = (): number => sets.reduce((sum, { size }) => sum + size, 0);
  for (let turns = 0; turns < 2_000 && count() > 0; turns += 1) await new Promise((resolve) => setTimeout(resolve, 2));
  return count();
}

async function closeAll(servers: readonly Server[], sockets: ReadonlySet<Socket>): Promise<void> {
  for (const socket of sockets) socket.destroy();
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
}
