/**
 * Makes the certificates of a test bench: authorities, server and device certificates. Keys are made on the spot and
 * returned as text; nothing is written anywhere. An authority is a plain record of PEM, so one read from files works too.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  randomBytes,
  webcrypto,
} from 'node:crypto';
import { promisify } from 'node:util';

/** The key types made here. RSA is slow to make (a second on a small machine); EC is not. */
export type KeyAlgorithm = 'EC-P256' | 'EC-P384' | 'RSA-2048';

/** One relative distinguished name: attribute type (`O`, `OU`, `C`, `CN`, … or an OID) to its values. */
export type SubjectPart = Readonly<Record<string, readonly string[]>>;

/** A certificate with its private key (PKCS#8, never encrypted), all PEM. */
export interface IssuedCertificate {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** This certificate, then every intermediate, without the root. A self-signed certificate is its own chain. */
  readonly chainPem: string;
}

/** All that is needed to issue under it. `chainPem` is empty for a root: peers are to have roots, not to be sent them. */
export interface CertificateAuthority extends IssuedCertificate {
  /** What a verifier is to trust: the certificate at the end of this authority's chain. */
  readonly rootPem: string;
}

/** Validity in milliseconds since 1970. Default: from one hour before `nowMs` to 365 days after it. */
export interface Validity {
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  /** Default: the clock of this machine. */
  readonly nowMs?: number;
}

export interface AuthorityOptions extends Validity {
  readonly commonName: string;
  /** Left out: a self-signed root. */
  readonly issuer?: CertificateAuthority;
  /** Default `EC-P256`. */
  readonly keyAlgorithm?: KeyAlgorithm;
}

export interface SelfSignedOptions extends Validity {
  /** Empty leaves the CN out; other names then come from `subjectExtra` or the alternative names. */
  readonly commonName: string;
  /** Default `client`. */
  readonly usage?: 'server' | 'client';
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  /** Default `EC-P256`. */
  readonly keyAlgorithm?: KeyAlgorithm;
  /** Further parts of the subject, written before the CN. */
  readonly subjectExtra?: readonly SubjectPart[];
}

export interface CertificateOptions extends SelfSignedOptions {
  readonly usage: 'server' | 'client';
}

const HOUR_MS = 3_600_000;
const DEFAULT_LIFETIME_MS = 365 * 24 * HOUR_MS;
const SERIAL_BYTES = 16;

type Engine = typeof import('@peculiar/x509');
type EngineCertificate = InstanceType<Engine['X509Certificate']>;
type EngineExtension = InstanceType<Engine['Extension']>;

/** Makes an authority: a root, or an intermediate under `issuer`. May sign certificates and revocation lists. */
export async function makeAuthority(options: AuthorityOptions): Promise<CertificateAuthority> {
  const engine = await loadEngine();
  const keys = await makeKeys(options.keyAlgorithm);
  const usages = engine.KeyUsageFlags.keyCertSign | engine.KeyUsageFlags.cRLSign;
  const certificatePem = await sign(
    engine,
    keys,
    options.issuer,
    options,
    [{ CN: [options.commonName] }],
    [new engine.BasicConstraintsExtension(true, undefined, true), new engine.KeyUsagesExtension(usages, true)],
  );
  return {
    certificatePem,
    privateKeyPem: exportPrivateKey(keys),
    chainPem: options.issuer === undefined ? '' : certificatePem + options.issuer.chainPem,
    rootPem: options.issuer === undefined ? certificatePem : options.issuer.rootPem,
  };
}

/** Issues a server or device certificate under `authority`. */
export async function issueCertificate(
  authority: CertificateAuthority,
  options: CertificateOptions,
): Promise<IssuedCertificate> {
  const leaf = await makeLeaf(authority, options);
  return { ...leaf, chainPem: leaf.certificatePem + authority.chainPem };
}

/** Makes a certificate that vouches for itself, as an individual enrollment may name one by its thumbprint. */
export async function makeSelfSigned(options: SelfSignedOptions): Promise<IssuedCertificate> {
  const leaf = await makeLeaf(undefined, options);
  return { ...leaf, chainPem: leaf.certificatePem };
}

async function makeLeaf(
  authority: CertificateAuthority | undefined,
  options: SelfSignedOptions,
): Promise<{ certificatePem: string; privateKeyPem: string }> {
  const engine = await loadEngine();
  const keys = await makeKeys(options.keyAlgorithm);
  const subject = [
    ...(options.subjectExtra ?? []),
    ...(options.commonName === '' ? [] : [{ CN: [options.commonName] }]),
  ];
  const certificatePem = await sign(engine, keys, authority, options, subject, leafExtensions(engine, options));
  return { certificatePem, privateKeyPem: exportPrivateKey(keys) };
}

function leafExtensions(engine: Engine, options: SelfSignedOptions): EngineExtension[] {
  const { digitalSignature, keyEncipherment } = engine.KeyUsageFlags;
  const isRsa = options.keyAlgorithm === 'RSA-2048';
  const purpose = options.usage === 'server' ? engine.ExtendedKeyUsage.serverAuth : engine.ExtendedKeyUsage.clientAuth;
  const names = [
    ...(options.dnsNames ?? []).map((value) => ({ type: 'dns' as const, value })),
    ...(options.ipAddresses ?? []).map((value) => ({ type: 'ip' as const, value })),
  ];
  return [
    new engine.BasicConstraintsExtension(false, undefined, true),
    new engine.KeyUsagesExtension(isRsa ? digitalSignature | keyEncipherment : digitalSignature, true),
    new engine.ExtendedKeyUsageExtension([purpose]),
    ...(names.length === 0 ? [] : [new engine.SubjectAlternativeNameExtension(names)]),
  ];
}

async function sign(
  engine: Engine,
  keys: KeyPair,
  authority: CertificateAuthority | undefined,
  validity: Validity,
  subject: readonly SubjectPart[],
  extensions: readonly EngineExtension[],
): Promise<string> {
  const issuer = authority === undefined ? undefined : new engine.X509Certificate(authority.certificatePem);
  const signer = authority === undefined ? keys.privateKey : createPrivateKey(authority.privateKeyPem);
  const publicKey = keys.publicKey.export({ type: 'spki', format: 'der' });
  const subjectName = new engine.Name(subject.map(encodeSubjectPart));
  const nowMs = validity.nowMs ?? Date.now();
  const { signingKey, signingAlgorithm } = await toSigningKey(signer);
  const certificate = await engine.X509CertificateGenerator.create(
    {
      serialNumber: makeSerialNumber(),
      subject: subjectName,
      issuer: issuer?.subjectName ?? subjectName,
      notBefore: new Date(validity.notBeforeMs ?? nowMs - HOUR_MS),
      notAfter: new Date(validity.notAfterMs ?? nowMs + DEFAULT_LIFETIME_MS),
      publicKey,
      signingKey,
      signingAlgorithm,
      extensions: [
        ...extensions,
        await engine.SubjectKeyIdentifierExtension.create(publicKey, false, webcrypto),
        await authorityKeyIdentifier(engine, issuer, publicKey),
      ],
    },
    webcrypto,
  );
  return `${certificate.toString('pem')}\n`;
}

async function authorityKeyIdentifier(
  engine: Engine,
  issuer: EngineCertificate | undefined,
  ownPublicKey: Uint8Array<ArrayBuffer>,
): Promise<EngineExtension> {
  // An authority made elsewhere may number its key in a way of its own: its word counts.
  const keyId = issuer?.getExtension(engine.SubjectKeyIdentifierExtension)?.keyId;
  return keyId === undefined
    ? engine.AuthorityKeyIdentifierExtension.create(issuer?.publicKey ?? ownPublicKey, false, webcrypto)
    : new engine.AuthorityKeyIdentifierExtension(keyId);
}

/** Everything as UTF-8 but the country, which X.520 wants as PrintableString; no escapes are interpreted. */
function encodeSubjectPart(
  part: SubjectPart,
): Record<string, { utf8String: string }[] | { printableString: string }[]> {
  return Object.fromEntries(
    Object.entries(part).map(([type, values]) => [
      type,
      type === 'C'
        ? values.map((printableString) => ({ printableString }))
        : values.map((utf8String) => ({ utf8String })),
    ]),
  );
}

/** Positive and without leading zero byte in DER (RFC 5280 4.1.2.2): the two top bits are 01. */
function makeSerialNumber(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

const makeKeyPair = promisify(generateKeyPair);

async function makeKeys(algorithm: KeyAlgorithm = 'EC-P256'): Promise<KeyPair> {
  switch (algorithm) {
    case 'EC-P256':
      return makeKeyPair('ec', { namedCurve: 'P-256' });
    case 'EC-P384':
      return makeKeyPair('ec', { namedCurve: 'P-384' });
    case 'RSA-2048':
      return makeKeyPair('rsa', { modulusLength: 2048 });
  }
}

function exportPrivateKey(keys: KeyPair): string {
  return keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** The curve or key decides the hash: SHA-384 for P-384, else SHA-256. */
async function toSigningKey(
  key: KeyObject,
): Promise<{ signingKey: webcrypto.CryptoKey; signingAlgorithm: { name: string; hash: string } }> {
  const isRsa = key.asymmetricKeyType === 'rsa';
  const namedCurve = createPublicKey(key).asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'P-384' : 'P-256';
  const hash = !isRsa && namedCurve === 'P-384' ? 'SHA-384' : 'SHA-256';
  const name = isRsa ? 'RSASSA-PKCS1-v1_5' : 'ECDSA';
  const signingKey = await webcrypto.subtle.importKey(
    'pkcs8',
    key.export({ type: 'pkcs8', format: 'der' }),
    isRsa ? { name, hash } : { name, namedCurve },
    false,
    ['sign'],
  );
  return { signingKey, signingAlgorithm: { name, hash } };
}

let engine: Promise<Engine> | undefined;

function loadEngine(): Promise<Engine> {
  engine ??= importEngine();
  return engine;
}

/**
 * The engine's dependency container refuses to load where no `reflect-metadata` polyfill is, and asks it nothing that
 * has an answer. It gets stand-ins for the time of loading only: left in place they would keep a real polyfill, loaded
 * later by the application, from installing itself.
 */
async function importEngine(): Promise<Engine> {
  const standIns = ['getMetadata', 'getOwnMetadata', 'defineMetadata'].filter((name) => !Reflect.has(Reflect, name));
  for (const name of standIns) {
    Object.defineProperty(Reflect, name, { value: () => undefined, configurable: true, writable: true });
  }
  try {
    const loaded: Engine & { readonly default?: Engine } = await import('@peculiar/x509');
    // Compiled into a bundle, the CommonJS engine has its exports under `default` only.
    return loaded.default ?? loaded;
  } finally {
    for (const name of standIns) Reflect.deleteProperty(Reflect, name);
  }
}
