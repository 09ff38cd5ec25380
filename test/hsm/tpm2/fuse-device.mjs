// A stand-in for the kernel's TPM devices: files in a FUSE file system that follow the rules of
// drivers/char/tpm/tpm-dev-common.c, in front of a swtpm. They are reached through the kernel by the very system calls of a
// device, but they are regular files, and no TPM driver takes part. Speaks the kernel's FUSE protocol (linux/fuse.h, 7.31)
// itself, so that nothing has to be installed; needs the right to mount.
//
// argv: folder to mount on, path of swtpm's socket. Prints a line when it is there; ends when it is unmounted.
import { spawnSync } from 'node:child_process';
import { openSync, read, writeSync } from 'node:fs';
import { connect } from 'node:net';

const [folder, socketPath] = process.argv.slice(2);
const ERRNO = { ENOENT: 2, EACCES: 13, EBUSY: 16, EINVAL: 22, EPIPE: 32, E2BIG: 7, ENOSYS: 38, ETIME: 62 };
const DIRECT_IO = 1;
const NONSEEKABLE = 4;
const MAX_COMMAND_BYTES = 4096;

/** What is in the folder, by inode. */
const FILES = new Map([
  [2n, { name: 'tpmrm0' }],
  [3n, { name: 'tpm0', isExclusive: true }],
  [4n, { name: 'tpm-short-reads', readBytes: 7 }],
  [5n, { name: 'tpm-old-kernel', dropsRest: true }],
  [6n, { name: 'tpm-not-ours', refusal: 'EACCES' }],
  [7n, { name: 'tpm-gone', failure: 'EPIPE' }],
  [8n, { name: 'tpm-silent', failure: 'none' }],
]);

/** By file handle: inode and what nobody has read yet. */
const open = new Map();
let nextHandle = 1n;

const device = openSync('/dev/fuse', 'r+');
const options = 'fd=3,rootmode=40000,user_id=0,group_id=0,allow_other';
const mounted = spawnSync('mount', ['-i', '-t', 'fuse', '-o', options, 'tpm-stand-in', folder], {
  stdio: ['ignore', 'ignore', 'pipe', device],
});
if (mounted.status !== 0) {
  process.stderr.write(mounted.stderr);
  process.exit(1);
}
process.stdout.write('mounted\n');
serve();

function serve() {
  const buffer = Buffer.alloc(256 * 1024);
  read(device, buffer, 0, buffer.length, null, (error, length) => {
    if (error) process.exit(error.code === 'ENODEV' ? 0 : 1);
    void answer(Buffer.from(buffer.subarray(0, length)));
    serve();
  });
}

async function answer(request) {
  const unique = request.readBigUInt64LE(8);
  const operation = OPERATIONS[request.readUInt32LE(4)] ?? refuse;
  const result = await operation(request.readBigUInt64LE(16), request.subarray(40));
  if (result !== undefined) reply(unique, result);
}

function reply(unique, result) {
  const body = typeof result === 'string' ? Buffer.alloc(0) : result;
  const head = Buffer.alloc(16);
  head.writeUInt32LE(16 + body.length, 0);
  head.writeInt32LE(typeof result === 'string' ? -ERRNO[result] : 0, 4);
  head.writeBigUInt64LE(unique, 8);
  try {
    writeSync(device, Buffer.concat([head, body]));
  } catch (error) {
    // The caller has been killed meanwhile.
    if (error.code !== 'ENOENT') throw error;
  }
}

const refuse = () => 'ENOSYS';
const nothing = () => Buffer.alloc(0);
const noReply = () => undefined;

/** By opcode of linux/fuse.h. */
const OPERATIONS = {
  1: lookUp,
  2: noReply,
  3: (inode) => Buffer.concat([Buffer.alloc(16), attributesOf(inode)]),
  4: (inode) => Buffer.concat([Buffer.alloc(16), attributesOf(inode)]),
  14: openFile,
  15: readFile,
  16: writeFile,
  18: (_inode, body) => {
    open.delete(body.readBigUInt64LE(0));
    return Buffer.alloc(0);
  },
  25: nothing,
  26: initialize,
  36: noReply,
  42: noReply,
};

function initialize(_inode, body) {
  const out = Buffer.alloc(64);
  out.writeUInt32LE(7, 0);
  out.writeUInt32LE(31, 4);
  out.writeUInt32LE(body.readUInt32LE(8), 8);
  out.writeUInt16LE(16, 16);
  out.writeUInt16LE(12, 18);
  out.writeUInt32LE(128 * 1024, 20);
  out.writeUInt32LE(1, 24);
  return out;
}

function lookUp(_inode, body) {
  const name = body.toString('utf8', 0, body.indexOf(0));
  const [inode] = [...FILES].find(([, file]) => file.name === name) ?? [];
  if (inode === undefined) return 'ENOENT';
  const entry = Buffer.alloc(40);
  entry.writeBigUInt64LE(inode, 0);
  return Buffer.concat([entry, attributesOf(inode)]);
}

function attributesOf(inode) {
  const attributes = Buffer.alloc(88);
  attributes.writeBigUInt64LE(inode, 0);
  attributes.writeUInt32LE(inode === 1n ? 0o40755 : 0o100666, 60);
  attributes.writeUInt32LE(1, 64);
  attributes.writeUInt32LE(4096, 80);
  return attributes;
}

function openFile(inode) {
  const { refusal, isExclusive } = FILES.get(inode);
  if (refusal !== undefined) return refusal;
  if (isExclusive && [...open.values()].some((file) => file.inode === inode)) return 'EBUSY';
  const handle = nextHandle++;
  open.set(handle, { inode, response: Buffer.alloc(0) });
  const out = Buffer.alloc(16);
  out.writeBigUInt64LE(handle, 0);
  out.writeUInt32LE(DIRECT_IO | NONSEEKABLE, 8);
  return out;
}

function readFile(inode, body) {
  const file = open.get(body.readBigUInt64LE(0));
  const { readBytes = MAX_COMMAND_BYTES, dropsRest } = FILES.get(inode);
  const chunk = file.response.subarray(0, Math.min(body.readUInt32LE(16), readBytes));
  file.response = dropsRest ? Buffer.alloc(0) : file.response.subarray(chunk.length);
  return chunk;
}

async function writeFile(inode, body) {
  const file = open.get(body.readBigUInt64LE(0));
  const { failure } = FILES.get(inode);
  const command = body.subarray(40, 40 + body.readUInt32LE(16));
  if (file.response.length > 0) return 'EBUSY';
  if (command.length > MAX_COMMAND_BYTES) return 'E2BIG';
  if (command.length < 10 || command.length < command.readUInt32BE(2)) return 'EINVAL';
  if (failure === 'none') return undefined;
  if (failure !== undefined) return failure;
  file.response = await ask(command);
  const out = Buffer.alloc(8);
  out.writeUInt32LE(command.length, 0);
  return out;
}

function ask(command) {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let response = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      response = Buffer.concat([response, chunk]);
      if (response.length < 6 || response.length < response.readUInt32BE(2)) return;
      socket.destroy();
      resolve(response);
    });
    socket.on('error', reject);
    socket.write(command);
  });
}
