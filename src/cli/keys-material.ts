import { createPrivateKey, createSecretKey, type KeyObject, type X509Certificate } from 'node:crypto';
import { readCertificates } from '../../hsm/certificate-chain.js';
import { type KeyMaterial, makeSymmetricKey } from '../../hsm/key-store/key-material.js';
import { makePrivateKey, makeSigningRequest, type PrivateKeyAlgorithm } from '../../hsm/key-store/signing-request.js';
import type { SoftwareKeyStore } from '../../hsm/software-key-store.js';
import { type SymmetricKeyHsmOptions, symmetricKeyHsm } from '../../hsm/symmetric-key.js';
import type { CertificateAuthority, KeyAlgorithm, Validity } from '../emulator/pki.js';
import { loadApart } from './apart.js';
import { UsageError } from './cli-errors.js';
import { findTarget, type KeysContext } from './keys-work.js';

/** What can be made: three kinds of identities, and what a test bench needs to vouch for devices. */
export type MadeKind = 'symmetric-key' | 'csr' | 'self-signed' | 'ca' | 'device';

/** Something made, with what is to be handed out of it. */
export interface Made {
  readonly material: KeyMaterial;
  readonly signingRequestPem?: string;
}

/** Which options each kind takes beside the common ones. */
const OPTIONS_OF: Readonly<Record<MadeKind, readonly string[]>> = {
  'symmetric-key': ['registration-id', 'write-key'],
  csr: ['registration-id', 'algorithm', 'write-request'],
  'self-signed': ['registration-id', 'algorithm', 'days', 'write-certificate'],
  ca: ['common-name', 'issuer', 'algorithm', 'days', 'write-certificate'],
  device: ['registration-id', 'issuer', 'algorithm', 'days', 'write-certificate'],
};

const DAY_MS = 86_400_000;

/** All that it takes to make something, but for the store. */
export interface Recipe {
  readonly kind: MadeKind;
  /** What makes certificates, where there are to be any. */
  readonly engine: Engine | undefined;
  /** Entry of the authority that signs. */
  readonly issuer: string | undefined;
}

/**
 * To be called before anything is written: a store that was made for nothing would have to be removed again.
 *
 * @throws {UsageError} for options that do not go with what is to be made, or are missing.
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_UNSUPPORTED` where there is nothing that could make certificates.
 */
export async function prepareMaterial(context: KeysContext, kind: MadeKind): Promise<Recipe> {
  const { options } = context;
  checkKindOptions(context, kind);
  // The environment may serve several commands.
  const issuer = OPTIONS_OF[kind].includes('issuer') ? options.text('issuer') : undefined;
  if (kind === 'device' && issuer === undefined) {
    throw options.missing(
      'issuer',
      '--issuer is missing: give the entry of the authority; keys make --kind ca makes one.',
    );
  }
  const isBare = kind === 'symmetric-key' || kind === 'csr';
  return { kind, issuer, engine: isBare ? undefined : await loadEngine() };
}

function checkKindOptions({ options }: KeysContext, kind: MadeKind): void {
  const others = Object.values(OPTIONS_OF).flat();
  for (const name of others) {
    if (OPTIONS_OF[kind].includes(name) || options.text(name) === undefined) continue;
    // The environment may serve several commands.
    if (options.layer(name) !== 'flag') continue;
    throw new UsageError(`--${name} does not go with --kind ${kind}. Leave it out.`);
  }
}

/** Makes a key, with certificates where they belong to it. Nothing is stored yet. */
export async function makeMaterial(
  context: KeysContext,
  { kind, engine, issuer: issuerName }: Recipe,
  { commonName, store }: { readonly commonName: string; readonly store: SoftwareKeyStore },
): Promise<Made> {
  const { options, signal } = context;
  const algorithm = (options.text('algorithm') ?? 'ec-p256') as PrivateKeyAlgorithm;
  if (kind === 'symmetric-key') {
    return { material: { kind: 'symmetricKey', registrationId: commonName, key: makeSymmetricKey() } };
  }
  if (engine === undefined) {
    const key = await makePrivateKey(algorithm, signal);
    const material: KeyMaterial = { kind: 'x509', key, certificates: [], registrationId: commonName };
    return { material, signingRequestPem: makeSigningRequest(key, commonName) };
  }
  const issuer = issuerName === undefined ? undefined : await findIssuer(issuerName, store, signal);
  const settings = { commonName, keyAlgorithm: ALGORITHMS[algorithm], ...validityOf(context) };
  const made =
    kind === 'ca'
      ? await engine.makeAuthority({ ...settings, ...(issuer === undefined ? {} : { issuer }) })
      : issuer === undefined
        ? await engine.makeSelfSigned({ ...settings, usage: 'client' })
        : await engine.issueCertificate(issuer, { ...settings, usage: 'client' });
  const chain = made.chainPem === '' ? made.certificatePem : made.chainPem;
  const certificates = readCertificates({ text: chain, place: 'the certificates made' });
  return { material: { kind: 'x509', key: createPrivateKey(made.privateKeyPem), certificates } };
}

/** A symmetric key that was made here, and goes nowhere, is of no use: its enrollment has to have it, too. */
export function warnIfUnread(
  { material }: Made,
  targets: Targets,
  { log }: KeysContext,
  { remedy }: { readonly remedy: string },
): void {
  if (material.kind !== 'symmetricKey' || targets.key !== undefined) return;
  const line = `careful: this key was made here and written nowhere else: nobody can enroll it. To have one for the enrollment: ${remedy}`;
  log.entry({ type: 'log', line }, line);
}

/** Writes what the options ask for, and says what of it goes into the result. */
export async function handOutMade({ material, signingRequestPem }: Made, targets: Targets): Promise<object> {
  if (material.kind === 'symmetricKey') {
    return targets.key === undefined ? {} : { keyFile: (await targets.key.write(`${base64Of(material.key)}\n`)).path };
  }
  if (signingRequestPem !== undefined) {
    return targets.request === undefined
      ? { signingRequestPem }
      : { signingRequestFile: (await targets.request.write(signingRequestPem)).path };
  }
  const chain = material.certificates.map((certificate) => certificate.toString()).join('');
  return targets.certificate === undefined
    ? { certificateChainPem: chain }
    : { certificateFile: (await targets.certificate.write(chain)).path };
}

export interface Targets {
  readonly key: Awaited<ReturnType<typeof findTarget>>;
  readonly request: Awaited<ReturnType<typeof findTarget>>;
  readonly certificate: Awaited<ReturnType<typeof findTarget>>;
}

/** Before anything is made: a key that could not be handed out would have to be removed again. */
export async function findTargets(context: KeysContext): Promise<Targets> {
  return {
    key: await findTarget(context, 'write-key', 'secret'),
    request: await findTarget(context, 'write-request', 'public'),
    certificate: await findTarget(context, 'write-certificate', 'public'),
  };
}

/** A symmetric key that was given, or derived from what was given, with all the checks of the HSM that reads it. */
export async function readSymmetricKey(options: SymmetricKeyHsmOptions, signal: AbortSignal): Promise<KeyObject> {
  const hsm = await symmetricKeyHsm(options, signal);
  const text = (await hsm.exportKey?.(0, signal)) ?? '';
  const bytes = Buffer.from(text, 'base64');
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}

export function base64Of(key: KeyObject): string {
  const bytes = key.export();
  const text = bytes.toString('base64');
  bytes.fill(0);
  return text;
}

const ALGORITHMS: Readonly<Record<PrivateKeyAlgorithm, KeyAlgorithm>> = {
  'ec-p256': 'EC-P256',
  'ec-p384': 'EC-P384',
  'rsa-2048': 'RSA-2048',
};

function validityOf({ options, io }: KeysContext): Validity {
  const days = Number(options.text('days') ?? 365);
  const nowMs = io.clock.wallMs();
  return { nowMs, notAfterMs: nowMs + days * DAY_MS };
}

async function findIssuer(name: string, store: SoftwareKeyStore, signal: AbortSignal): Promise<CertificateAuthority> {
  const { key, certificates } = await store.authority(name, signal);
  const [own] = certificates;
  if (own === undefined || !own.ca) {
    throw new UsageError(`--issuer: the entry ${name} is no authority. Make one: keys make --kind ca.`);
  }
  const isRoot = own.checkIssued(own);
  return {
    certificatePem: own.toString(),
    privateKeyPem: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    chainPem: isRoot ? '' : certificates.map((certificate: X509Certificate) => certificate.toString()).join(''),
    rootPem: '',
  };
}

type Engine = typeof import('./keys-certificates.js');

function loadEngine(): Promise<Engine> {
  return loadApart(() => import('./keys-certificates.js'), 'what makes certificates');
}
