import { LayerwiseError } from '../errors.js';

/** A value of a recipe, or an option of what trains one, is unknown or out of range: its name, what was expected, what came. */
export class RecipeError extends LayerwiseError {
  override readonly name = 'RecipeError';
  readonly code = 'INVALID_RECIPE';
}
