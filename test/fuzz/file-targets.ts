import { createPrivateKey, KeyObject } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readCommonNames } from '../../hsm/certificate-subject.js';
import { readDerElements } from '../../hsm/der.js';
import { formatPem, readPemBlocks } from '../../hsm/pem.js';
import { readPrivateKey } from '../../hsm/private-key.js';
import { symmetricKeyHsm } from '../../hsm/symmetric-key.js';
import { type X509FileHsmOptions, x509FileHsm } from '../../hsm/x509-file.js';
import { registrationIdProblem } from '../../src/core/identifiers.js';
import { issueCertificate, makeAuthority } from '../../src/emulator/pki.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { mutateBytes, mutateText } from './mutations.js';
import { ensure, settledOrCode, valueOrCode } from './properties.js';

/** What a device has on its disk. Made once: keys are never committed. */
export interface FuzzedFiles {
  readonly leafPem: string;
  readonly intermediatePem: string;
  readonly keyPem: string;
  readonly encryptedKeyPem: string;
  readonly sec1KeyPem: string;
  /** The DER of the leaf. */
  readonly leafDer: Uint8Array;
  /** For files; removed by `remove`. */
  readonly folder: string;
  remove(): void;
}

/** Messages name the kind of a block as the file has it; what prints them makes them fit for a terminal. */
const anyMessage = (): void => {};

const PASSPHRASE = 'fuzz';
const NEVER: AbortSignal = new AbortController().signal;

export async function makeFuzzedFiles(): Promise<FuzzedFiles> {
  const root = await makeAuthority({ commonName: 'Fuzz Root' });
  const authority = await makeAuthority({ commonName: 'Fuzz Intermediate', issuer: root });
  const leaf = await issueCertificate(authority, { commonName: 'dev-1', usage: 'client' });
  const key = createPrivateKey(leaf.privateKeyPem);
  const folder = mkdtempSync(join(tmpdir(), 'dps-device-fuzz-'));
  return {
    leafPem: leaf.certificatePem,
    intermediatePem: authority.certificatePem,
    keyPem: leaf.privateKeyPem,
    encryptedKeyPem: key
      .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-128-cbc', passphrase: PASSPHRASE })
      .toString(),
    sec1KeyPem: key.export({ type: 'sec1', format: 'pem' }).toString(),
    leafDer: readPemBlocks(leaf.certificatePem)[0]?.der ?? new Uint8Array(0),
    folder,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** The parsers of key and certificate files, and of keys as text. */
export function fileTargets(files: FuzzedFiles): readonly FuzzTarget[] {
  return [pemBlocks(files), derNames(files), privateKey(files), certificateFiles(files), symmetricKey(files)];
}

function pemBlocks({ leafPem, encryptedKeyPem, intermediatePem }: FuzzedFiles): FuzzTarget {
  return {
    name: 'pem blocks',
    run(random) {
      const text = random.note(
        'text',
        mutateText(random, random.pick([leafPem, encryptedKeyPem, leafPem + intermediatePem])),
      );
      const blocks = readPemBlocks(text);
      for (const { label, der, problem, headers } of blocks) {
        ensure((der === undefined) === (problem !== undefined), 'a block has content or a problem');
        if (der !== undefined)
          ensure(readPemBlocks(formatPem(label, der, headers)).length === 1, 'it can be written again');
      }
      return blocks.some(({ der }) => der !== undefined) ? 'whole' : blocks.length === 0 ? 'none' : 'damaged';
    },
  };
}

function derNames({ leafDer }: FuzzedFiles): FuzzTarget {
  return {
    name: 'der names',
    run(random) {
      const der = random.note('der', random.chance(0.95) ? mutateBytes(random, leafDer) : leafDer);
      readDerElements(der);
      const names = readCommonNames(der);
      ensure(names === undefined || names.every((name) => typeof name === 'string'), 'names are text');
      return names === undefined ? 'no certificate' : names.length === 0 ? 'no name' : 'names';
    },
  };
}

function privateKey({ keyPem, encryptedKeyPem, sec1KeyPem }: FuzzedFiles): FuzzTarget {
  return {
    name: 'private key',
    run(random) {
      const pem = random.pick([keyPem, encryptedKeyPem, sec1KeyPem]);
      const text = random.note('text', fuzzedPem(random, pem));
      const passphrase = random.pick([undefined, PASSPHRASE, '', 'wrong']);
      const read = valueOrCode(() => readPrivateKey({ text, place: 'the file' }, passphrase), anyMessage);
      if ('code' in read) return requireHsmCode(read.code);
      ensure(read.value instanceof KeyObject && read.value.type === 'private', 'it is a private key');
      return 'key';
    },
  };
}

function certificateFiles(files: FuzzedFiles): FuzzTarget {
  return {
    name: 'certificate and key',
    async run(random) {
      const options = random.note('options', randomX509Options(random, files));
      const read = await settledOrCode(x509FileHsm(options), anyMessage);
      if ('code' in read) return requireHsmCode(read.code);
      ensure(
        registrationIdProblem(await read.value.registrationId(NEVER)) === undefined,
        'the name is a registration id',
      );
      await read.value.tlsCredential(0, NEVER);
      return 'identity';
    },
  };
}

function randomX509Options(random: FuzzRandom, files: FuzzedFiles): X509FileHsmOptions {
  const isEncrypted = random.chance(0.1);
  const key = isEncrypted ? files.encryptedKeyPem : files.keyPem;
  const victim = random.pick(['certificate', 'certificate', 'key', 'chain', 'none']);
  const damage = (name: string, pem: string): string => (victim === name ? fuzzedPem(random, pem) : pem);
  return {
    // An empty text is an option that is missing, and another matter.
    certificatePem: damage('certificate', files.leafPem) || ' ',
    keyPem: damage('key', key) || ' ',
    ...(random.chance(0.5) ? { chainPem: damage('chain', files.intermediatePem) || ' ' } : {}),
    ...(isEncrypted ? { passphrase: PASSPHRASE } : {}),
    clock: { wallMs: () => random.pick([Date.now(), 0, Number.NaN]) },
  };
}

function symmetricKey({ folder }: FuzzedFiles): FuzzTarget {
  const file = join(folder, 'symmetric.key');
  writeFileSync(file, '');
  chmodSync(file, 0o600);
  return {
    name: 'symmetric key',
    async run(random) {
      const valid = Buffer.from(random.bytes(random.pick([16, 32, 64]))).toString('base64');
      const isFile = random.chance(0.3);
      const text = random.note('text', isFile ? '' : mutateText(random, valid) || ' ');
      const bytes = random.note('file', isFile ? mutateBytes(random, Buffer.from(`${valid}\n`)) : undefined);
      if (bytes !== undefined) writeFileSync(file, bytes);
      const option = random.pick(['key', 'groupKey'] as const);
      const source = isFile ? { file } : text;
      const hsm = await settledOrCode(
        symmetricKeyHsm(
          option === 'key' ? { registrationId: 'dev-1', key: source } : { registrationId: 'dev-1', groupKey: source },
        ),
      );
      if ('code' in hsm) return requireHsmCode(hsm.code);
      ensure((await hsm.value.sign(new Uint8Array(3), 0, NEVER)).length === 32, 'it signs');
      return 'identity';
    },
  };
}

/** Damaged as text, or inside its Base64 so that the armour still is whole. */
function fuzzedPem(random: FuzzRandom, pem: string): string {
  const [block] = readPemBlocks(pem);
  if (random.chance(0.4) || block?.der === undefined) return mutateText(random, pem);
  return formatPem(block.label, mutateBytes(random, block.der), block.headers);
}

function requireHsmCode(code: string): string {
  ensure(code.startsWith('ERR_DPS_HSM_'), `the code is one of the HSM's, not ${code}`);
  return code;
}
