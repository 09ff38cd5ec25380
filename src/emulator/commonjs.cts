/** The emulator's door for CommonJS: a thin shim over the ESM one, so everything here returns a promise. */
import type {
  AuthorityOptions,
  CertificateAuthority,
  CertificateOptions,
  Emulator,
  EmulatorConfig,
  EmulatorOptions,
  IssuedCertificate,
  LoadedConfig,
  SelfSignedOptions,
} from './index.js' with { 'resolution-mode': 'import' };

export type * from './index.js' with { 'resolution-mode': 'import' };

/** See `startEmulator` of the ESM door. */
export async function startEmulator(config?: EmulatorConfig, options?: EmulatorOptions): Promise<Emulator> {
  return (await import('./index.js')).startEmulator(config, options);
}

/** See `loadEmulatorConfig` of the ESM door. */
export async function loadEmulatorConfig(file: string): Promise<LoadedConfig> {
  return (await import('./index.js')).loadEmulatorConfig(file);
}

/** See `makeAuthority` of the ESM door. */
export async function makeAuthority(options: AuthorityOptions): Promise<CertificateAuthority> {
  return (await import('./index.js')).makeAuthority(options);
}

/** See `issueCertificate` of the ESM door. */
export async function issueCertificate(
  authority: CertificateAuthority,
  options: CertificateOptions,
): Promise<IssuedCertificate> {
  return (await import('./index.js')).issueCertificate(authority, options);
}

/** See `makeSelfSigned` of the ESM door. */
export async function makeSelfSigned(options: SelfSignedOptions): Promise<IssuedCertificate> {
  return (await import('./index.js')).makeSelfSigned(options);
}
