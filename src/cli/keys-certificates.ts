/**
 * Certificates for test benches. The engine that makes them is far larger than anything a device needs, so this module is
 * loaded only when one is to be made, and the single device file leaves it out (see `tools/build.mjs`).
 */
export { type IssuedCertificate, issueCertificate, makeAuthority, makeSelfSigned } from '../emulator/pki.js';
