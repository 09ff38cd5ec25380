/** A row of `kdfa` in `tpm-activation.json`; all but `bits` and `label` is hex. */
export interface KdfaVector {
  readonly key: string;
  readonly label: string;
  readonly contextU: string;
  readonly contextV: string;
  readonly bits: number;
  readonly out: string;
}
