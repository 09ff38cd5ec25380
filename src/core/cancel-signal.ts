/**
 * The part of an `AbortSignal` that the contracts rely on, so that the core stays free of host types.
 * Every `AbortSignal` is one; contracts implemented on Node may ask for `AbortSignal` itself.
 */
export interface CancelSignal {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: 'abort', listener: () => void, options?: { readonly once?: boolean }): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}
