/**
 * A way to a TPM: bytes of a whole command in, bytes of the whole response out.
 *
 * Nobody calls `transceive` before the one before has settled. It may fail with any error; those of this package are
 * `HsmError`s that say what to do. After a failure the link is as good as new: the next command opens what it needs.
 */
export interface TpmLink {
  /** Where the TPM is, for messages: `/dev/tpmrm0`, `swtpm at 127.0.0.1:2321`. */
  readonly place: string;
  /** Settles within `timeoutMs`, whatever the other side does. */
  transceive(command: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
  /** No command is waiting: lets go of what others may want, such as the only connection that a simulator serves. */
  rest(): void;
  /** Lets go of everything. Nothing is sent after it. */
  close(): Promise<void>;
}
