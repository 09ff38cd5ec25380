// The kernel link on Linux's own TPM driver, in a virtual machine whose TPM is a swtpm. No part of the test suite, because
// it needs a kernel and QEMU:
//
//   apt-get install qemu-system-x86 swtpm busybox-static
//   apt-get download linux-image-cloud-amd64 (the package it depends on), dpkg -x it, and give its vmlinuz:
//   node test/hsm/tpm2/kernel-guest/run.mjs --kernel root/boot/vmlinuz-… [--device tpm-crb]
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const { values } = parseArgs({
  options: {
    kernel: { type: 'string' },
    busybox: { type: 'string', default: '/bin/busybox' },
    device: { type: 'string', default: 'tpm-tis' },
    accelerator: { type: 'string', default: 'tcg' },
    verbose: { type: 'boolean', default: false },
  },
});
if (values.kernel === undefined) throw new Error('Give --kernel, the vmlinuz of a Linux with a driver for the TPM.');

const INIT = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
echo "guest: Linux $(/bin/busybox uname -r), $(/bin/busybox cat /sys/class/tpm/tpm0/device/description 2>/dev/null) $(/bin/busybox ls /dev | /bin/busybox grep tpm | /bin/busybox tr '\\n' ' ')"
/bin/node /guest-process.mjs
/bin/busybox poweroff -f
`;

let inode = 1;
const folder = mkdtempSync(join(tmpdir(), 'dps-device-guest-'));
const state = join(folder, 'tpm');
mkdirSync(state);
const control = join(folder, 'control.sock');
const tpm = spawn('swtpm', ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--ctrl', `type=unixio,path=${control}`]);
try {
  await build({
    entryPoints: [fileURLToPath(new URL('guest-process.ts', import.meta.url))],
    outfile: join(folder, 'guest-process.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  });
  writeFileSync(join(folder, 'initramfs'), gzipSync(makeArchive(contents()), { level: 1 }));
  process.exitCode = await runGuest();
} finally {
  tpm.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}

/** Path in the guest, and what is there. */
function contents() {
  const libraries = execFileSync('ldd', [process.execPath], { encoding: 'utf8' })
    .split('\n')
    .map((line) => /(\/\S+)/.exec(line)?.[1])
    .filter((path) => path !== undefined && existsSync(path));
  return new Map([
    ['init', Buffer.from(INIT)],
    ['bin/busybox', readFileSync(values.busybox)],
    ['bin/node', readFileSync(process.execPath)],
    ['guest-process.mjs', readFileSync(join(folder, 'guest-process.mjs'))],
    ...libraries.map((path) => [path.slice(1), readFileSync(path)]),
  ]);
}

/** The cpio format "newc", which the kernel unpacks. */
function makeArchive(files) {
  const folders = new Set(['dev', 'proc', 'sys', 'tmp']);
  for (const path of files.keys()) {
    const parts = path.split('/').slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth += 1) folders.add(parts.slice(0, depth).join('/'));
  }
  const entries = [
    ...[...folders].sort().map((path) => entry(path, 0o40755, Buffer.alloc(0))),
    ...[...files].map(([path, bytes]) => entry(path, 0o100755, bytes)),
    entry('TRAILER!!!', 0, Buffer.alloc(0)),
  ];
  return Buffer.concat(entries);
}

function entry(path, mode, bytes) {
  const name = Buffer.from(`${path}\0`);
  const numbers = [inode++, mode, 0, 0, 1, 0, bytes.length, 0, 0, 0, 0, name.length, 0];
  const head = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}`;
  return padded(Buffer.concat([padded(Buffer.concat([Buffer.from(head), name])), bytes]));
}

function padded(bytes) {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

/** Gives the exit status: 0 when all checks passed. */
async function runGuest() {
  // Emulated in software: slow, and the same everywhere.
  const machine = ['-accel', values.accelerator, '-cpu', 'max'];
  const device = [
    ...['-chardev', `socket,id=tpm,path=${control}`],
    ...['-tpmdev', 'emulator,id=tpm0,chardev=tpm', '-device', `${values.device},tpmdev=tpm0`],
  ];
  const boot = ['-kernel', values.kernel, '-initrd', join(folder, 'initramfs')];
  const quiet = values.verbose ? '' : 'quiet ';
  const line = ['-append', `${quiet}console=ttyS0 panic=-1`];
  const rest = ['-m', '1024', '-display', 'none', '-serial', 'stdio', '-monitor', 'none', '-no-reboot', '-nic', 'none'];
  const guest = spawn('qemu-system-x86_64', [...machine, ...device, ...boot, ...line, ...rest]);
  let output = '';
  guest.stdout.on('data', (text) => {
    output += text;
    process.stdout.write(text);
  });
  guest.stderr.pipe(process.stderr);
  const patience = setTimeout(() => guest.kill('SIGKILL'), 600_000);
  await once(guest, 'close');
  clearTimeout(patience);
  return /^\d+ passed, 0 failed\r?$/m.test(output) ? 0 : 1;
}
