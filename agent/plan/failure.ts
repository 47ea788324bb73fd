/** A plan or a step that failed for a known reason: ends the document as `failed` with this code and remedy. */
export class Failure extends Error {
  override name = 'Failure';
  readonly code: string;
  readonly remedy: string;

  constructor(code: string, message: string, remedy: string) {
    super(message);
    this.code = code;
    this.remedy = remedy;
  }
}
