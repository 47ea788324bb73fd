/** The plan can't be made: a person has to do something first. Ends the document as `failed` with this code. */
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
