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

/** Whether everything is there that the contracts rely on: half a signal would fail in the midst of things. */
export function isCancelSignal(value: unknown): value is CancelSignal {
  if (typeof value !== 'object' || value === null) return false;
  const { aborted, addEventListener, removeEventListener } = value as { readonly [name: string]: unknown };
  return (
    typeof aborted === 'boolean' && typeof addEventListener === 'function' && typeof removeEventListener === 'function'
  );
}
