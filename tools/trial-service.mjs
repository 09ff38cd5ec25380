// The service side of a trial: the samples' rig on this Node, and what the consumer programs have to know of it.
import { spawn } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { issueCertificate, makeAuthority } from 'dps-device/emulator';
import { startRig } from '../samples/rig.mjs';

/** Nobody listens there. */
const CLOSED_PORT = 1;

export async function startTrialService() {
  const rig = await startRig();
  // Polls are part of a trial, the service's three seconds before each are not.
  rig.emulator.faults.add({ at: 'dps.register', action: { kind: 'retryAfter', value: '0' } });
  const { idScope, endpoints } = rig;
  const folder = dirname(rig.files.key);
  const files = { ...rig.files, encryptedKey: encryptKey(rig.files.certificateKey, join(folder, 'encrypted.key')) };
  const refusing = await startRefusingServer(folder);
  const ca = [rig.ca, refusing.ca].join('\n');
  const description = JSON.stringify({
    idScope,
    ca,
    endpoints,
    files,
    closedPort: CLOSED_PORT,
    refusingPort: refusing.port,
    foreignCa: refusing.ca,
  });
  return {
    /** Writes `service.json` for the consumer programs, `device.json` for the command line, and the CA that it names. */
    describeIn(folder) {
      writeFileSync(join(folder, 'service.json'), description);
      writeFileSync(join(folder, 'ca.pem'), ca);
      const identity = { certFile: files.certificate, certKeyFile: files.certificateKey };
      const config = { idScope, endpoint: endpoints.mqtt, caFile: 'ca.pem', ...identity };
      writeFileSync(join(folder, 'device.json'), JSON.stringify(config));
    },
    async close() {
      await refusing.close();
      await rig.close();
    },
  };
}

function encryptKey(from, to) {
  const key = createPrivateKey(readFileSync(from));
  const pem = key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'correct horse' });
  writeFileSync(to, pem, { mode: 0o600 });
  return to;
}

/** A TLS 1.3 server that trusts no device: OpenSSL's own, because Node's servers hang up without the alert. */
async function startRefusingServer(folder) {
  const authority = await makeAuthority({ commonName: 'Some Other CA' });
  const server = await issueCertificate(authority, {
    commonName: 'localhost',
    usage: 'server',
    dnsNames: ['localhost'],
  });
  const [chain, key] = [join(folder, 'refusing.pem'), join(folder, 'refusing.key')];
  writeFileSync(chain, server.chainPem);
  writeFileSync(key, server.privateKeyPem, { mode: 0o600 });
  const verify = ['-CAfile', chain, '-Verify', '1', '-verify_return_error'];
  const child = spawn(
    'openssl',
    ['s_server', '-tls1_3', '-accept', 'localhost:0', '-cert', chain, '-key', key, ...verify],
    {
      stdio: ['pipe', 'pipe', 'ignore'],
    },
  );
  const exited = once(child, 'exit');
  return {
    ca: authority.rootPem,
    port: await readPort(child.stdout),
    async close() {
      child.kill();
      await exited;
    },
  };
}

/** s_server says `ACCEPT 127.0.0.1:46315` when it listens. */
async function readPort(stdout) {
  for await (const line of createInterface(stdout)) {
    const [, port] = line.match(/^ACCEPT .*:(\d+)$/) ?? [];
    if (port !== undefined) {
      stdout.resume();
      return Number(port);
    }
  }
  throw new Error('openssl s_server ended before it listened.');
}
