"""What all pages stand on: rendering, who looks, live parts, forms, what a change is answered."""
