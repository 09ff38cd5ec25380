import type { KeyObject, X509Certificate } from 'node:crypto';
import { readCertificates } from '../../hsm/certificate-chain.js';
import { certificatesFor, commonNameOf, type KeyMaterial } from '../../hsm/key-store/key-material.js';
import { certificateInsteadOfKey, type NamedText, readPrivateKey } from '../../hsm/private-key.js';
import { readPublicFile, readSecretFile } from '../../hsm/secret-file.js';
import { HsmError } from '../errors.js';
import { UsageError } from './cli-errors.js';
import { readSymmetricKey } from './keys-material.js';
import { entryName, type KeysContext, type KeysWork, openOrMakeStore, openStore } from './keys-work.js';
import { type OptionNames, respell } from './option-names.js';
import type { GivenSecret } from './secrets.js';

/** `keys import`. */
export const importKey: KeysWork = async (context) => {
  const { options, signal } = context;
  const name = entryName(context);
  const given = await readGiven(context, options.text('registration-id'), name);
  if (given === undefined) {
    throw options.missing(
      'symmetric-key-file',
      'There is nothing to import: give --symmetric-key-file, or --cert-file with --cert-key-file.',
    );
  }
  if ('certificates' in given) checkCommonName(context, given.certificates[0]);
  // A certificate alone is for a key that is there already.
  const store = await ('kind' in given ? openOrMakeStore(context) : openStore(context));
  const entry =
    'kind' in given
      ? await store.add(name, given, signal)
      : await store.attach(name, given.certificates, given.place, signal);
  return { keyStore: store.directory, entry };
};

/** What a certificate says of its device cannot be changed by an option. */
function checkCommonName({ options }: KeysContext, leaf: X509Certificate | undefined): void {
  const wanted = options.text('registration-id');
  if (wanted === undefined || leaf === undefined) return;
  const found = commonNameOf(leaf);
  if (found === wanted) return;
  const name = found === undefined ? 'no common name, or several' : `the common name ${JSON.stringify(found)}`;
  throw new UsageError(
    `${options.label('registration-id')} says ${JSON.stringify(wanted)}, but the certificate has ${name}. DPS takes the registration id from there: leave the option out, or give the certificate of that device.`,
  );
}

/** Certificates for a key that the store has already. */
export interface GivenCertificates {
  readonly certificates: readonly X509Certificate[];
  readonly place: string;
}

/** The key, or the certificates alone, that the options name; `undefined` when they name none. */
export async function readGiven(
  context: KeysContext,
  registrationId: string | undefined,
  name: string,
): Promise<KeyMaterial | GivenCertificates | undefined> {
  const { options, secrets, signal } = context;
  const symmetric = secrets.get('symmetric-key');
  const privateKey = secrets.get('cert-key');
  const hasCertificate = options.text('cert-file') !== undefined || options.text('chain-file') !== undefined;
  if (symmetric !== undefined && (privateKey !== undefined || hasCertificate)) {
    throw new UsageError(
      `${symmetric.label} does not go with a certificate or private key: an entry holds one or the other. Leave one out.`,
    );
  }
  if (symmetric !== undefined) {
    const id = registrationId ?? name;
    const key = await readSymmetricKey({ registrationId: id, key: symmetric.source }, signal);
    return { kind: 'symmetricKey', registrationId: id, key };
  }
  const texts = await readCertificateTexts(context);
  if (privateKey !== undefined) return privateKeyMaterial(context, privateKey, texts, registrationId);
  if (texts.length === 0) return undefined;
  const place = texts.map((text) => text.place).join(' and ');
  return { certificates: texts.flatMap(readCertificates), place };
}

async function privateKeyMaterial(
  context: KeysContext,
  source: GivenSecret,
  texts: readonly NamedText[],
  registrationId: string | undefined,
): Promise<KeyMaterial> {
  const named = await readKeyText(source, context.signal);
  const key = openPrivateKey(named, await readPassphrase(context));
  const certificates = texts.length === 0 ? [] : certificatesFor(key, named.place, texts);
  return { kind: 'x509', key, certificates, ...(registrationId === undefined ? {} : { registrationId }) };
}

function openPrivateKey(named: NamedText, passphrase: string | undefined): KeyObject {
  try {
    return readPrivateKey(named, passphrase);
  } catch (error) {
    if (!(error instanceof HsmError)) throw error;
    const { code, operation, message, cause } = error;
    throw new HsmError({ code, operation, message: respell(message, PASSPHRASE_OF_KEY), cause });
  }
}

/** Elsewhere in these commands this option is the passphrase of the store. */
const PASSPHRASE_OF_KEY: OptionNames = new Map([
  [
    'hsm.passphrase',
    { label: undefined, place: undefined, usage: '--key-passphrase-file FILE', isFlag: false, isContent: true },
  ],
]);

async function readCertificateTexts({ options, signal }: KeysContext): Promise<NamedText[]> {
  const paths = [options.text('cert-file'), options.text('chain-file')].filter((path) => path !== undefined);
  if (options.text('cert-file') === undefined && paths.length > 0) {
    throw options.missing('cert-file', "--cert-file is missing: give the PEM file of the device's own certificate.");
  }
  const texts: NamedText[] = [];
  for (const path of paths) {
    const bytes = await readPublicFile(path, { what: 'certificate', signal });
    // PEM is ASCII; what stands around its blocks may be in any encoding.
    texts.push({ text: Buffer.from(bytes).toString('latin1'), place: path });
  }
  return texts;
}

async function readKeyText({ source, place }: GivenSecret, signal: AbortSignal): Promise<NamedText> {
  if (typeof source === 'string') return { text: source, place };
  const bytes = await readSecretFile(source.file, {
    what: 'private key',
    signal,
    mistakeIn: (content) =>
      certificateInsteadOfKey({ text: Buffer.from(content).toString('latin1'), place: source.file }),
  });
  const text = Buffer.from(bytes).toString('latin1');
  bytes.fill(0);
  return { text, place: source.file };
}

async function readPassphrase({ secrets, signal }: KeysContext): Promise<string | undefined> {
  const source = secrets.get('key-passphrase')?.source;
  if (source === undefined || typeof source === 'string') return source;
  const bytes = await readSecretFile(source.file, { what: 'passphrase', signal });
  const text = Buffer.from(bytes)
    .toString('utf8')
    .replace(/\r?\n$/, '');
  bytes.fill(0);
  return text;
}
