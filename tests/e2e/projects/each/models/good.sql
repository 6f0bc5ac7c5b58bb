select {{ var("one", 1) }} as id
