import { createPrivateKey, type KeyObject } from 'node:crypto';
import { type DpsErrorCode, HsmError } from '../src/errors.js';
import { formatPem, holdsOnlyCertificates, isOneDerElement, type PemBlock, readPemBlocks } from './pem.js';

/** Text with the name under which its owner knows it: a file's path, or an option. */
export interface NamedText {
  readonly text: string;
  readonly place: string;
}

const KEY_LABELS = ['PRIVATE KEY', 'ENCRYPTED PRIVATE KEY', 'EC PRIVATE KEY', 'RSA PRIVATE KEY', 'DSA PRIVATE KEY'];
const MIN_RSA_BITS = 2048;
/** P-256, P-384 and P-521 in OpenSSL's spelling. That DPS takes the first two is documented; the third it is left to refuse. */
const USABLE_CURVES = ['prime256v1', 'secp384r1', 'secp521r1'];

/**
 * Reads the one private key in PEM text: PKCS#8, SEC 1 or PKCS#1, encrypted or not. Other blocks beside it (curve
 * parameters, certificates) are skipped.
 *
 * @throws {HsmError} `ERR_DPS_HSM_PASSPHRASE` when it is encrypted and `passphrase` is missing or does not fit.
 * @throws {HsmError} `ERR_DPS_HSM_KEY_INVALID` when there is no key, more than one, a damaged one, or one of a kind
 *   that the service's TLS 1.2 cannot use.
 */
export function readPrivateKey(source: NamedText, passphrase: string | undefined): KeyObject {
  const blocks = readPemBlocks(source.text);
  const keys = blocks.filter((block) => KEY_LABELS.includes(block.label));
  const [block] = keys;
  if (block === undefined) throw keyError(`${source.place} ${explainNoKey(source.text, blocks)}`);
  if (keys.length > 1)
    throw keyError(`${source.place} holds ${keys.length} private keys; keep the one of the device's certificate.`);
  if (block.der === undefined)
    throw keyError(`The private key in ${source.place} ${block.problem}. Copy the file again.`);
  const key = parseKey(formatPem(block.label, block.der, block.headers), isEncrypted(block), passphrase, source.place);
  const problem = keyTypeProblem(key);
  if (problem === undefined) return key;
  throw keyError(
    `The private key in ${source.place} ${problem}. Use an EC key (P-256 or P-384) or RSA of ${MIN_RSA_BITS} bits or more.`,
  );
}

/** What `readPrivateKey` throws for certificates alone; `undefined` for anything that could hold a key. */
export function certificateInsteadOfKey({ text, place }: NamedText): HsmError | undefined {
  return holdsOnlyCertificates(text) ? keyError(`${place} ${ONLY_A_CERTIFICATE}`) : undefined;
}

function isEncrypted(block: PemBlock): boolean {
  return block.label === 'ENCRYPTED PRIVATE KEY' || block.headers.some((header) => header.includes('ENCRYPTED'));
}

function parseKey(pem: string, encrypted: boolean, passphrase: string | undefined, place: string): KeyObject {
  if (!encrypted) {
    try {
      return createPrivateKey(pem);
    } catch (error) {
      throw keyError(`The private key in ${place} is damaged, or of a kind unknown here. Copy the file again.`, error);
    }
  }
  if (passphrase === undefined) {
    throw passphraseError(`The private key in ${place} is encrypted: give { file: … } as option hsm.passphrase.`);
  }
  try {
    return createPrivateKey({ key: pem, passphrase });
  } catch (error) {
    // A wrong passphrase is not always told from an unknown cipher: one in a few hundred decrypts to noise that ends well.
    throw passphraseError(
      `The private key in ${place} cannot be decrypted: the passphrase is wrong, or the key is encrypted in a way this OpenSSL does not know.`,
      error,
    );
  }
}

function keyTypeProblem(key: KeyObject): string | undefined {
  const details = key.asymmetricKeyDetails;
  switch (key.asymmetricKeyType) {
    case 'rsa': {
      const bits = details?.modulusLength ?? MIN_RSA_BITS;
      return bits >= MIN_RSA_BITS ? undefined : `is RSA of ${bits} bits, which TLS stacks refuse as too weak`;
    }
    case 'ec': {
      const curve = details?.namedCurve;
      if (curve === undefined || USABLE_CURVES.includes(curve)) return undefined;
      return `is on the curve ${curve}, which the service's TLS 1.2 does not offer`;
    }
    case 'rsa-pss':
      return "is bound to RSASSA-PSS, with which the service's TLS 1.2 takes no client signature";
    default:
      // RFC 8422 lets Ed25519 into TLS 1.2, but the service's TLS stack (Windows) does not have it.
      return `is of type ${key.asymmetricKeyType ?? 'unknown'}, with which the service's TLS 1.2 takes no client signature`;
  }
}

const ONLY_A_CERTIFICATE = 'holds a certificate and no private key. Were certificate and key swapped?';

function explainNoKey(text: string, blocks: readonly PemBlock[]): string {
  const labels = blocks.map((block) => block.label);
  if (labels.includes('OPENSSH PRIVATE KEY')) {
    return 'holds a key in the form of OpenSSH. Convert a copy of it: ssh-keygen -p -m PEM -f COPY';
  }
  if (labels.includes('PUBLIC KEY')) return 'holds a public key; the private one is wanted.';
  if (labels.some((label) => label.endsWith('CERTIFICATE'))) {
    return ONLY_A_CERTIFICATE;
  }
  if (labels.length > 0) return `holds ${labels[0]} and no private key that can be used here.`;
  if (isOneDerElement(Buffer.from(text, 'latin1'))) {
    return 'is binary (DER or PKCS#12), not PEM. Convert it: openssl pkey -inform DER -in KEY.der -out KEY.pem (openssl pkcs12 for .p12 and .pfx)';
  }
  return 'holds no private key in PEM (-----BEGIN PRIVATE KEY-----).';
}

function keyError(message: string, cause?: unknown): HsmError {
  return loadError('ERR_DPS_HSM_KEY_INVALID', message, cause);
}

function passphraseError(message: string, cause?: unknown): HsmError {
  return loadError('ERR_DPS_HSM_PASSPHRASE', message, cause);
}

function loadError(code: DpsErrorCode, message: string, cause: unknown): HsmError {
  return new HsmError({ code, operation: 'load private key', message, cause });
}
