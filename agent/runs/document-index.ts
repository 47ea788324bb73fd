/** Index of a document among its command's own, from 0. Events, receipts and the store number documents from 1. */
export type DocumentIndex = number & { readonly brand: 'DocumentIndex' };

export const FIRST_DOCUMENT = 0 as DocumentIndex;

/** Returns the number under which events, receipts and the store name a document. */
export function numberOf(index: DocumentIndex): number {
  return index + 1;
}

/** Returns the index of the document that events, receipts and the store name by `number`. */
export function indexOf(number: number): DocumentIndex {
  return (number - 1) as DocumentIndex;
}

/** Returns each document of a command, or the result of each, with its index. */
export function indexed<T>(documents: readonly T[]): [DocumentIndex, T][] {
  return [...documents.entries()] as [DocumentIndex, T][];
}
