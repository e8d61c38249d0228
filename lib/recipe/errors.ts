/** A value of a recipe is unknown or out of range: its name, what was expected, what came. */
export class RecipeError extends Error {
  override readonly name = 'RecipeError';
  readonly code = 'INVALID_RECIPE';
}
