import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:https';
import { connect } from 'node:net';
import { json } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';

const POWER_OFF = 2;
const SEND_COMMAND = 8;
const SESSION_END = 20;

/** ms-tpm-20-ref as a process of ours, and who tampers with it: in literal bytes, past everything that is tried on it. */
export class ReferenceSimulator {
  #executable;
  #port;
  #folder;
  #process;

  /** It keeps its state, the file NVChip, in `folder`. */
  constructor(executable, port, folder) {
    this.#executable = executable;
    this.#port = port;
    this.#folder = folder;
    process.on('exit', () => this.#process?.kill('SIGKILL'));
  }

  get link() {
    return `tpm2:mssim:host=127.0.0.1,port=${this.#port}`;
  }

  async start() {
    // A stranger on the port would be cleared.
    if (await isThere(this.#port)) throw new Error(`Port ${this.#port} is taken: give another one, --port.`);
    const child = spawn(this.#executable, [String(this.#port)], { cwd: this.#folder, stdio: 'ignore' });
    this.#process = child;
    let failure;
    child.once('error', (error) => {
      failure = error;
    });
    child.once('exit', (code, signal) => {
      failure ??= new Error(`${this.#executable} ended with ${code ?? signal}.`);
    });
    while (failure === undefined && !(await isThere(this.#port + 1))) await pause(20);
    if (failure !== undefined) throw failure;
  }

  async stop() {
    const child = this.#process;
    this.#process = undefined;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }

  /** On the next two ports: it does not ask for those that it left a moment ago. */
  async restart() {
    await this.stop();
    this.#port += 2;
    await this.start();
  }

  async powerOff() {
    await this.#exchange(this.#port + 1, be32(POWER_OFF), 4);
  }

  /** Transient objects and sessions, loaded or saved. */
  async leaks() {
    return [
      ...(await this.#handles('80000000')),
      ...(await this.#handles('02000000')),
      ...(await this.#handles('03000000')),
    ];
  }

  persistent() {
    return this.#handles('81000000');
  }

  clear() {
    return this.#authorized('00000126', '4000000a', '', '');
  }

  setOwnerPassword(password) {
    return this.#authorized('00000129', '40000001', '', sized(password));
  }

  evict(handle, password) {
    const hex = handle.toString(16);
    return this.#authorized('00000120', `40000001${hex}`, password, hex);
  }

  /** What the service answers to the first request of a device with these keys. */
  async challengeFrom({ idScope, endpoints, caPem }, { registrationId, endorsementKey, storageRootKey }) {
    const [host, port] = endpoints.dps.https.split(':');
    const path = `/${idScope}/registrations/${registrationId}/register?api-version=2019-03-31`;
    const body = JSON.stringify({ registrationId, tpm: { endorsementKey, storageRootKey } });
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
    const asked = request({ host, port, path, method: 'PUT', ca: caPem, headers }).end(body);
    const [reply] = await once(asked, 'response');
    return json(reply);
  }

  async #handles(first) {
    const body = await this.#command(`8001 00000016 0000017a 00000001 ${first} 000000fe`);
    return Array.from({ length: body.readUInt32BE(5) }, (_, index) =>
      body.toString('hex', 9 + index * 4, 13 + index * 4),
    );
  }

  /** The first of the handles is authorized. */
  async #authorized(code, handles, password, parameters) {
    const auth = `40000009 0000 01 ${sized(password)}`.replace(/ /g, '');
    const body = `${code}${handles}${hex32(auth.length / 2)}${auth}${parameters}`;
    await this.#command(`8002 ${hex32(body.length / 2 + 6)} ${body}`);
  }

  /** Gives what follows the response code. */
  async #command(text) {
    const command = Buffer.from(text.replace(/ /g, ''), 'hex');
    const frame = Buffer.concat([be32(SEND_COMMAND), Buffer.alloc(1), be32(command.length), command]);
    const answer = await this.#exchange(this.#port, frame);
    const code = answer.readUInt32BE(10);
    if (code !== 0) throw new Error(`The simulator refused ${text.slice(14, 22)} with ${code.toString(16)}.`);
    return answer.subarray(14, -4);
  }

  /** Without a length: of what tells its own, with its size in front and an acknowledgement behind. */
  async #exchange(port, bytes, length) {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write(bytes);
    let answer = Buffer.alloc(0);
    const isWhole = () =>
      length === undefined
        ? answer.length >= 4 && answer.length >= answer.readUInt32BE(0) + 8
        : answer.length >= length;
    while (!isWhole()) answer = Buffer.concat([answer, ...(await once(socket, 'data'))]);
    socket.end(be32(SESSION_END));
    await once(socket.resume(), 'close');
    return answer;
  }
}

async function isThere(port) {
  const socket = connect(port, '127.0.0.1');
  const isConnected = await once(socket, 'connect').then(
    () => true,
    () => false,
  );
  if (!isConnected) return false;
  socket.end(be32(SESSION_END));
  await once(socket.resume(), 'close');
  return true;
}

function be32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function hex32(value) {
  return be32(value).toString('hex');
}

function sized(text) {
  return Buffer.byteLength(text).toString(16).padStart(4, '0') + Buffer.from(text).toString('hex');
}
