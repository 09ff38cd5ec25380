import type { KeyObject } from 'node:crypto';
import type { TlsClientCredential, X509Hsm } from '../src/core/attestation.js';
import { decodeUtf8 } from '../src/core/bytes.js';
import type { CancelSignal } from '../src/core/cancel-signal.js';
import { throwIfCancelled } from '../src/core/cancellation.js';
import { HsmError } from '../src/errors.js';
import {
  checkChainOrder,
  checkDates,
  checkKeyMatches,
  dropRepeated,
  readCertificates,
  readRegistrationId,
} from './certificate-chain.js';
import {
  checkOptionNames,
  type OptionBag,
  optionalPath,
  optionalSecret,
  optionalText,
  optionError,
  type SecretSource,
} from './hsm-options.js';
import { certificateInsteadOfKey, type NamedText, readPrivateKey } from './private-key.js';
import { readPublicFile, readSecretFile } from './secret-file.js';

/** Certificate and key in PEM files. */
interface X509Files {
  /** Path of the device's certificate, followed by its intermediates if they are in the same file. */
  readonly certificate: string;
  /** Path of the private key, mode 0600. */
  readonly key: string;
  /** Path of further intermediates. */
  readonly chain?: string;
}

/** Certificate and key as PEM text. */
interface X509Texts {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly chainPem?: string;
}

export type X509FileHsmOptions = (X509Files | X509Texts) & {
  /** Of the private key, if it is encrypted: text, or the file that holds it (mode 0600). */
  readonly passphrase?: SecretSource;
  /** Must equal the certificate's common name, for those who want to be told when it does not. */
  readonly registrationId?: string;
  /** What certificates' dates are held against. Default: the clock of this machine. */
  readonly clock?: { wallMs(): number };
};

const OPTION_NAMES = [
  'certificate',
  'key',
  'chain',
  'certificatePem',
  'keyPem',
  'chainPem',
  'passphrase',
  'registrationId',
  'clock',
];

/**
 * Holds a device certificate, its intermediates and its private key in memory, checked: that they are whole, belong
 * together, are in order and within their dates, and that the common name is a registration id.
 *
 * @throws {ConfigurationError} when an option is missing, unknown, of the wrong type, or does not go with another.
 * @throws {HsmError} `ERR_DPS_HSM_CERTIFICATE_INVALID`, `_KEY_INVALID`, `_PASSPHRASE`, `_KEY_MISMATCH`, `_CHAIN_ORDER`,
 *   `_REGISTRATION_ID`, `_CERTIFICATE_EXPIRED`, `_CERTIFICATE_NOT_YET_VALID`, or what `readSecretFile` throws.
 * @throws {CancelledError} when the signal aborts.
 */
export async function x509FileHsm(options: X509FileHsmOptions, signal?: CancelSignal): Promise<X509Hsm> {
  const bag = checkOptionNames(options, OPTION_NAMES, 'the X.509 HSM');
  const sources = chooseSources(bag);
  const expectedId = optionalText(bag, 'registrationId');
  const passphraseSource = optionalSecret(bag, 'passphrase');
  const wallMs = readClock(bag);

  // The certificate first: whoever swapped the two files is told so, not to change the mode of the certificate.
  const certificates = readCertificates(await sources.certificate(signal));
  const intermediates = sources.chain === undefined ? [] : readCertificates(await sources.chain(signal));
  const chain = dropRepeated([...certificates, ...intermediates]);
  const key = await sources.key(signal);
  const privateKey = readPrivateKey(key, await readPassphrase(passphraseSource, signal));

  checkKeyMatches(chain, privateKey, sources.place, key.place);
  checkChainOrder(chain, sources.place);
  const registrationId = readRegistrationId(chain[0]?.raw ?? new Uint8Array(), sources.place, expectedId);
  checkDates(chain, wallMs, sources.place);
  return new CertificateInMemory(
    registrationId,
    chain.map((certificate) => certificate.toString()).join(''),
    privateKey,
  );
}

class CertificateInMemory implements X509Hsm {
  readonly kind = 'x509';
  readonly #registrationId: string;
  readonly #certificateChainPem: string;
  readonly #privateKey: KeyObject;

  constructor(registrationId: string, certificateChainPem: string, privateKey: KeyObject) {
    this.#registrationId = registrationId;
    this.#certificateChainPem = certificateChainPem;
    this.#privateKey = privateKey;
  }

  async registrationId(signal: CancelSignal): Promise<string> {
    throwIfCancelled(signal, 'reading the registration id');
    return this.#registrationId;
  }

  /** The key leaves decrypted, as PKCS#8: so the passphrase does not have to. */
  async tlsCredential(slot: number, signal: CancelSignal): Promise<TlsClientCredential> {
    throwIfCancelled(signal, 'reading the TLS credential');
    if (slot !== 0) {
      const message = `There is no certificate in slot ${slot}; the only slot is 0.`;
      throw new HsmError({ code: 'ERR_DPS_HSM_OPERATION', operation: 'read TLS credential', message });
    }
    const privateKeyPem = this.#privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    return { certificateChainPem: this.#certificateChainPem, privateKeyPem };
  }
}

type TextReader = (signal: CancelSignal | undefined) => Promise<NamedText>;

interface Sources {
  /** Where the certificates are, for messages. */
  readonly place: string;
  readonly certificate: TextReader;
  readonly key: TextReader;
  readonly chain: TextReader | undefined;
}

function chooseSources(options: OptionBag): Sources {
  const certificate = optionalPath(options, 'certificate', 'device.pem');
  const key = optionalPath(options, 'key', 'device.key');
  const chain = optionalPath(options, 'chain', 'intermediates.pem');
  const certificatePem = optionalText(options, 'certificatePem');
  const keyPem = optionalText(options, 'keyPem');
  const chainPem = optionalText(options, 'chainPem');
  const hasFiles = [certificate, key, chain].some((path) => path !== undefined);
  const hasTexts = [certificatePem, keyPem, chainPem].some((text) => text !== undefined);
  if (hasFiles && hasTexts) {
    const message =
      'Give either paths (options hsm.certificate, hsm.key, hsm.chain) or PEM text (hsm.certificatePem, hsm.keyPem, hsm.chainPem), not both.';
    throw optionError('ERR_DPS_CONFIG_OPTION', 'certificatePem', message);
  }
  if (hasTexts) {
    return {
      place: 'option hsm.certificatePem',
      certificate: holdText(
        certificatePem ?? missing('certificatePem', "the PEM text of the device's certificate"),
        'option hsm.certificatePem',
      ),
      key: holdText(keyPem ?? missing('keyPem', 'the PEM text of its private key'), 'option hsm.keyPem'),
      chain: chainPem === undefined ? undefined : holdText(chainPem, 'option hsm.chainPem'),
    };
  }
  const path = certificate ?? missing('certificate', "the path of the device's certificate, a PEM file");
  return {
    place: chain === undefined ? path : `${path} and ${chain}`,
    certificate: readCertificateFile(path),
    key: readKeyFile(key ?? missing('key', 'the path of its private key, a PEM file')),
    chain: chain === undefined ? undefined : readCertificateFile(chain),
  };
}

function missing(option: string, what: string): never {
  throw optionError('ERR_DPS_CONFIG_MISSING_OPTION', option, `Option hsm.${option} is missing: give ${what}.`);
}

function holdText(text: string, place: string): TextReader {
  return async (signal) => {
    throwIfCancelled(signal, 'loading the certificate and its key');
    return { text, place };
  };
}

function readCertificateFile(path: string): TextReader {
  return async (signal) => {
    const bytes = await readPublicFile(path, { what: 'certificate', signal });
    return { text: decodeLatin1(bytes), place: path };
  };
}

function readKeyFile(path: string): TextReader {
  return async (signal) => {
    const bytes = await readSecretFile(path, {
      what: 'private key',
      signal,
      mistakeIn: (content) => certificateInsteadOfKey({ text: decodeLatin1(content), place: path }),
    });
    const text = decodeLatin1(bytes);
    bytes.fill(0);
    return { text, place: path };
  };
}

/** PEM is ASCII, what stands around its blocks may be in any encoding, and this one refuses nothing. */
function decodeLatin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

async function readPassphrase(
  source: SecretSource | undefined,
  signal: CancelSignal | undefined,
): Promise<string | undefined> {
  if (source === undefined || typeof source === 'string') return source;
  const bytes = await readSecretFile(source.file, { what: 'passphrase', signal });
  const text = decodeUtf8(bytes);
  bytes.fill(0);
  // One line end is what editors and echo add; a space may be part of the phrase.
  if (text !== undefined) return text.replace(/\r?\n$/, '');
  throw new HsmError({
    code: 'ERR_DPS_HSM_PASSPHRASE',
    operation: 'load passphrase',
    message: `The passphrase file ${source.file} is not UTF-8 text. Write the passphrase into it as one line of text.`,
  });
}

function readClock(options: OptionBag): number {
  const clock = options.clock;
  if (clock === undefined) return Date.now();
  if (typeof clock === 'object' && clock !== null && 'wallMs' in clock && typeof clock.wallMs === 'function') {
    return (clock as { wallMs(): number }).wallMs();
  }
  throw optionError('ERR_DPS_CONFIG_OPTION', 'clock', 'Option hsm.clock must be an object with a function wallMs().');
}
